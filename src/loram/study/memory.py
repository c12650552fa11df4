"""Peak memory of one run in a process that does many."""

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

__all__ = ["leave_out_imports", "peak", "reset_peak"]

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def leave_out_imports() -> None:
    """After a process's first run: collections no longer go through what imports have made.

    Each run begins with a collection, and they are most of what it would look at.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def reset_peak() -> None:
    """Forget the peak so far, where the system can: on Linux, and on a GPU.

    What an earlier run left goes back to the system first, cycles too: it would count as in use.
    Pages that still hold something stay, so that on a CPU peaks rise a little from run to run.
    """
    import torch

    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # of glibc alone
    with suppress(OSError):
        _CLEAR.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> int | None:
    """Bytes since `reset_peak`, of the GPU if there is one; None where the system does not say."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
