"""Writing files and folders that are whole or not there, also when the process dies."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_leftover", "staged_folder", "write_text"]

_PART = ".part"


def write_text(file: Path, text: str) -> None:
    """Replace the file's content, all of it or nothing."""
    staging = file.with_name(f".{file.name}{_PART}")
    staging.write_text(text, encoding="utf-8")
    os.replace(staging, file)


def is_leftover(file: Path) -> bool:
    """Whether this is what a killed `write_text` leaves behind."""
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
