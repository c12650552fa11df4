"""Wrapping PEFT's functions, and giving them back."""

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Function", "install", "is_wrapped", "undo"]

Function = Callable[..., Any]

_originals: dict[tuple[Any, str], Any] = {}


def install(owner: Any, name: str, wrap: Function) -> None:
    """Put `wrap`, which takes the original as its first argument, in the place of `owner.name`.

    Does nothing the second time.
    """
    if (owner, name) in _originals:
        return
    raw = owner.__dict__.get(name)
    kind = type(raw) if isinstance(raw, classmethod | staticmethod) else None
    original: Function = raw.__func__ if isinstance(raw, classmethod) else getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrap(original, *args, **kwargs)

    _originals[owner, name] = raw
    setattr(owner, name, call if kind is None else kind(call))


def is_wrapped() -> bool:
    """Whether anything is wrapped at present."""
    return bool(_originals)


def undo() -> None:
    """Give everything back, the last first."""
    while _originals:
        (owner, name), raw = _originals.popitem()
        if raw is None:
            delattr(owner, name)  # was inherited
        else:
            setattr(owner, name, raw)
