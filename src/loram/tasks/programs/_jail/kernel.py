"""What of the Linux kernel the jail needs and Python's library does not offer, through ctypes."""

import ctypes
import errno
import os
import struct

__all__ = [
    "check_machine",
    "drop_capabilities",
    "forbid_hidden_memory",
    "mount",
    "read_only",
    "set_process",
    "unshare",
]

_libc = ctypes.CDLL(None, use_errno=True)

NEW_NAMESPACES = 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000 | 0x04000000
"""Mounts, network, processes, System V messages, host name."""
NEW_USER = 0x10000000
PRIVATE, BIND, NO_SUID, NO_DEVICES = 0x44000, 0x5000, 2, 4  # the first two are recursive
DIE_WITH_PARENT, NOT_DUMPABLE, NO_NEW_PRIVILEGES = (1, 9), (4, 0), (38, 1)

# System calls whose memory no limit of a process counts: shmget, msgget, memfd_create,
# memfd_secret; before them the architecture as a filter sees it.
_HIDDEN_MEMORY = {
    "x86_64": (0xC000003E, (29, 68, 319, 447)),
    "aarch64": (0xC00000B7, (194, 186, 279, 447)),
}
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


def check_machine() -> None:
    """That `forbid_hidden_memory` knows the system calls of this machine.

    Raises:
        OSError: it does not.
    """
    machine = os.uname().machine
    if machine not in _HIDDEN_MEMORY:
        known = " or ".join(_HIDDEN_MEMORY)
        raise OSError(errno.ENOTSUP, f"expected a machine of {known}, got {machine}")


def forbid_hidden_memory() -> None:
    """Refuse the calls that give memory which no limit counts; needs `NO_NEW_PRIVILEGES`.

    A filter of the kernel (seccomp) on the number of each call. Calls of another architecture,
    whose numbers mean something else, are refused as well.
    """
    architecture, calls = _HIDDEN_MEMORY[os.uname().machine]
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    refuse, allow = 0x00050000 | errno.EPERM, 0x7FFF0000
    rest = len(calls) + 1  # steps from the first comparison of a number to `allow`
    program = [
        (load, 0, 0, 4),  # the architecture
        (equal, 0, rest + 2, architecture),
        (load, 0, 0, 0),  # the number of the call
        (at_least, rest, 0, 0x40000000),  # x86's second table
        *((equal, rest - 1 - place, 0, call) for place, call in enumerate(calls)),
        (end, 0, 0, allow),
        (end, 0, 0, refuse),
    ]
    text = b"".join(struct.pack("HBBI", *step) for step in program)
    code = ctypes.create_string_buffer(text, len(text))
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    )
    zero = ctypes.c_ulong(0)
    set_filter = _libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(filter_), zero, zero)
    _check(set_filter, "seccomp")
