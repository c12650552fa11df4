"""Telling a full disk from other failures."""

import errno
import shutil
from pathlib import Path

__all__ = ["is_full"]

_ROOM = 16 * 2**20  # bytes; a failure on a disk with less is the disk's


def is_full(error: BaseException, out: Path) -> bool:
    """Whether an error is for want of room; libraries in Rust and C++ hide the error number."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return shutil.disk_usage(out).free < _ROOM
    except OSError:
        return False
