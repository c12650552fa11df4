"""Writing files and folders that are whole or not there, also when the process dies."""

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

__all__ = [
    "claim_folder",
    "is_leftover",
    "read_object",
    "staged_file",
    "staged_folder",
    "write_json",
    "write_lines",
    "write_text",
]

_PART = ".part"


@contextmanager
def staged_file(target: Path) -> Generator[Path]:
    """A file beside `target` that replaces it once it is written."""
    staging = target.with_name(f".{target.name}{_PART}")
    yield staging
    os.replace(staging, target)


def write_text(file: Path, text: str) -> None:
    """Replace the file's content, all of it or nothing."""
    with staged_file(file) as staging:
        staging.write_text(text, encoding="utf-8")


def write_json(file: Path, value: Any) -> None:
    """Replace the file by a JSON value."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by JSON objects, one a line."""
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: there is none, or it can't be read; the message names the file.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"can't read {file}: expected a file of a run ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(value).__name__}: remove it")
    return cast(dict[str, Any], value)


def is_leftover(file: Path) -> bool:
    """Whether this is what a killed `staged_file` leaves behind."""
    return file.name.startswith(".") and file.name.endswith(_PART)


@contextmanager
def staged_folder(target: Path) -> Generator[Path]:
    """A folder beside `target` that takes its name once everything in it is written.

    If another process was first, its folder stays and this one is dropped. An empty folder in the
    way is replaced.

    Raises:
        OSError: the folder can't be made there, or `target` is in the way.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PART, dir=target.parent))
    try:
        yield staging
        mask = os.umask(0)
        os.umask(mask)
        staging.chmod(0o777 & ~mask)  # mkdtemp's folders are for their owner alone
        try:
            staging.rename(target)  # replaces an empty folder
        except OSError:
            if not (target.is_dir() and any(target.iterdir())):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of a run, with its settings in it; nothing if it is there with just these.

    Raises:
        ValueError: it has other settings, is no run, or can't be made; says what to do.
    """
    known = out / "settings.json"
    if known.exists():
        theirs = read_object(known)
        changed = sorted(k for k in {*theirs, *settings} if theirs.get(k) != settings.get(k))
        if changed:
            raise ValueError(
                f"{out} belongs to a run with other settings ({', '.join(changed)}): name another "
                "folder, or remove it"
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = [path for path in out.iterdir() if not is_leftover(path)]
    except OSError as error:
        raise ValueError(f"can't make {out} ({error}): name another folder") from error
    if others:
        raise ValueError(f"{out} exists and is not a run: name another folder")
    write_json(known, settings)
