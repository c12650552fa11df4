"""What of the Linux kernel the jail needs and Python's library does not offer, through ctypes."""

import ctypes
import os

__all__ = ["drop_capabilities", "mount", "read_only", "set_process", "unshare"]

_libc = ctypes.CDLL(None, use_errno=True)

NEW_NAMESPACES = 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000
"""Mounts, network, processes, System V messages, host name."""
NEW_USER = 0x10000000
PRIVATE, BIND, NO_SUID, NO_DEVICES = 0x44000, 0x5000, 2, 4  # the first two are recursive
DIE_WITH_PARENT, NOT_DUMPABLE, NO_NEW_PRIVILEGES = (1, 9), (4, 0), (38, 1)

_MOUNT_SETATTR = 442  # the same number on every architecture
_EVERY_MOUNT_BELOW = 0x8000
_CAPABILITIES_V3 = 0x20080522


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Put this process (its children, for processes) into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount `source` at `target`."""
    arguments = (each and each.encode() for each in (source, target, kind))
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def read_only(target: str) -> None:
    """Make a mount and all below it read-only, with set-uid bits off."""
    attributes = (ctypes.c_uint64 * 4)(1 | NO_SUID, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(-100),
        target.encode(),
        ctypes.c_uint(_EVERY_MOUNT_BELOW),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, f"mount_setattr {target}")


def set_process(setting: tuple[int, int]) -> None:
    """One of `DIE_WITH_PARENT`, `NOT_DUMPABLE`, `NO_NEW_PRIVILEGES`."""
    option, value = setting
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), "prctl")


def drop_capabilities() -> None:
    """Every capability of this process, for good together with `NO_NEW_PRIVILEGES`."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none), "capset")
