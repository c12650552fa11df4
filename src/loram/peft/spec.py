"""The string that asks PEFT for LoRAM, `LoraConfig(init_lora_weights="loram(gain=spectral)")`.

The string is the whole request: it travels in `adapter_config.json`, and nothing else does.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, cast

from loram.bases import BASES
from loram.schemes.loram import Statistic

__all__ = ["DEVIATION", "REFERENCES", "RESIDUAL", "LoramInit", "asks_for_loram", "parse"]

Form = Literal["loram", "loram_residual"]
DEVIATION: Form = "loram"
RESIDUAL: Form = "loram_residual"

REFERENCES = ("pissa", "pissa_niter_16", "milora", "olora", "corda", "lora_ga", "lora_one")
"""What `gain=track:…` can follow: initialisations of PEFT, and ours, whose product is not zero."""

_TRACK = "track:"
_PATTERN = re.compile(r"(?P<form>loram(?:_residual)?)\s*(?:\((?P<options>.*)\))?")


@dataclass(frozen=True, slots=True)
class LoramInit:
    """A parsed request.

    Attributes:
        form: `"loram"`, deviations from the basis over an untouched base; or `"loram_residual"`,
            the paper's Algorithm 1, which takes sB⁰A⁰ out of the base.
        gain: Q[r]: log, spectral, or a positive number; or `track:NAME`, which gives B⁰A⁰ the
            magnitude that another initialisation would have (§4.3).
        basis: dst, orthogonal, gaussian or etf.
        seed: of a random basis.
        statistic: mean_square (the paper's ν) or var (the authors' code).
        keep_base: residual form: keep a copy of W, so that unloading restores it bit for bit.
    """

    form: Form = DEVIATION
    gain: str | float = "log"
    basis: str = "dst"
    seed: int = 0
    statistic: Statistic = "mean_square"
    keep_base: bool = False

    @property
    def is_residual(self) -> bool:
        """Whether the base weight is rewritten."""
        return self.form == RESIDUAL

    @property
    def tracked(self) -> str | None:
        """The initialisation whose magnitude is followed, or None."""
        gain = self.gain
        if isinstance(gain, str) and gain.startswith(_TRACK):
            return gain.removeprefix(_TRACK)
        return None


def parse(value: object) -> LoramInit | None:
    """The request in `init_lora_weights`, or None if it is not one of ours.

    Raises:
        ValueError: the string starts with `loram` and cannot be understood. The message names what
            was wrong and lists what is possible.
    """
    if not isinstance(value, str) or not value.strip().lower().startswith("loram"):
        return None
    text = value.strip().lower()
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"init_lora_weights={value!r}: expected loram or loram_residual, optionally with "
            f"options as in loram(gain=spectral, seed=7). {_usage()}"
        )
    form = cast(Form, match["form"])
    options: dict[str, Any] = {}
    inside = (match["options"] or "").strip()
    for item in (part.strip() for part in inside.split(",")) if inside else ():
        name, equals, raw = (part.strip() for part in item.partition("="))
        if name not in _READERS or not equals:
            near = get_close_matches(name, _READERS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"init_lora_weights={value!r}: unknown option {item!r}.{hint} {_usage()}"
            )
        if name in options:
            raise ValueError(f"init_lora_weights={value!r}: option {name!r} is given twice")
        try:
            options[name] = _READERS[name][1](raw)
        except ValueError:
            raise ValueError(
                f"init_lora_weights={value!r}: {name}={raw} is not one of {_READERS[name][0]}. "
                f"{_usage()}"
            ) from None
    if options.get("keep_base") and form == DEVIATION:
        raise ValueError(
            f"init_lora_weights={value!r}: keep_base belongs to loram_residual; the form loram "
            "never changes the base"
        )
    return LoramInit(form=form, **options)


def asks_for_loram(config: Any) -> bool:
    """Whether a config of PEFT, or whatever stands in its place, has one of our strings."""
    return parse(getattr(config, "init_lora_weights", None)) is not None


def _gain(raw: str) -> str | float:
    if raw in ("log", "spectral") or raw in (_TRACK + name for name in REFERENCES):
        return raw
    number = float(raw)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


def _one_of(*names: str) -> Callable[[str], str]:
    def read(raw: str) -> str:
        if raw not in names:
            raise ValueError
        return raw

    return read


def _seed(raw: str) -> int:
    seed = int(raw)
    if not 0 <= seed < 2**31:
        raise ValueError
    return seed


def _flag(raw: str) -> bool:
    return {"true": True, "false": False}[_one_of("true", "false")(raw)]


# Option: what it may be (shown to the user), and how it is read.
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "gain": (
        f"log, spectral, a positive number, {_TRACK} and one of {', '.join(REFERENCES)}",
        _gain,
    ),
    "basis": (", ".join(BASES), _one_of(*BASES)),
    "seed": ("an integer from 0 to 2147483647", _seed),
    "statistic": ("mean_square, var", _one_of("mean_square", "var")),
    "keep_base": ("true, false", _flag),
}
assert set(_READERS) == {f.name for f in fields(LoramInit)} - {"form"}


def _usage() -> str:
    return "Options: " + "; ".join(f"{name}={what}" for name, (what, _) in _READERS.items()) + "."
