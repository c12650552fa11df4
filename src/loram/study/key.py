"""The content address of a run: what its numbers depend on, hashed."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from loram.tasks.pairs import ANSWERS
from loram.tasks.sources import WORDMATH
from loram.train.model import EMBEDDED

__all__ = ["NOT_HASHED", "content", "local", "run_key"]

# Bad images are left out or end the run: one that is done has the same numbers either way.
NOT_HASHED = ("keep", "magnitudes_every", "save_every", "skip_bad_images")
"""Settings that change what a run writes down or how it is resumed, not its numbers."""

# Larger files go by size and time of change: weights of gigabytes are not read for a key.
_READ_UP_TO = 256 * 2**20


def run_key(
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    threads: int,
    *,
    read: Callable[[str], str] | None = None,
) -> str:
    """SHA-256 over canonical JSON of all that decides a run's numbers; 64 hexadecimal digits.

    Args:
        settings: all of the run's, resolved.
        versions: of the libraries and of the kind of device.
        threads: of the run; the order of a sum depends on them.
        read: `content`, or a cache of it.
    """
    hashed = {name: value for name, value in settings.items() if name not in NOT_HASHED}
    hashed |= {name: (read or content)(path) for name, path in local(settings).items()}
    what = {"settings": hashed, "versions": dict(versions), "threads": threads}
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def local(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings that name files here, as a run would read them: what it makes by name is none."""
    of_wordmath = settings.get("task") == ANSWERS.name
    made = {"model": EMBEDDED.keys(), "data": {WORDMATH} if of_wordmath else ()}
    return {
        name: value
        for name, names in made.items()
        if isinstance(value := settings.get(name), str)
        and value not in names
        and Path(value).exists()
    }


def content(path: str) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    root = Path(path)
    if root.is_file():
        return _file(root)
    whole = hashlib.sha256()
    for file in sorted(each for each in root.rglob("*") if each.is_file()):
        whole.update(f"{file.relative_to(root).as_posix()}\0{_file(file)}\0".encode())
    return whole.hexdigest()


def _file(file: Path) -> str:
    known = file.stat()
    return _hash(str(file.resolve()), known.st_size, known.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash(file: str, size: int, changed: int) -> str:
    if size > _READ_UP_TO:
        return f"{size} bytes of {changed}"
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
