"""Runs one program in a jail; `loram.tasks.programs.sandbox` starts `python -I -S _jail FOLDER`.

Three processes: this one waits outside and keeps the time; its child is process 1 of a namespace of
processes, whose end is the end of everything in it, however it was started; and its child runs the
program. Each dies with its parent.
"""

import errno
import json
import os
import signal
import sys
import time
from typing import Any

import kernel
import root
import worker

__all__: list[str] = []

_CONTAINED, _NO_JAIL = 0, 125
_UIDS = 1_000_000  # far from those of people and services


def main() -> int:
    """Read an order from stdin, see it through, and print how it went."""
    order: dict[str, Any] = json.load(sys.stdin)
    kernel.set_process(kernel.DIE_WITH_PARENT)
    if os.getppid() != order["parent"]:
        return _NO_JAIL
    folder = sys.argv[1]
    try:
        kernel.check_machine()
        uid = _unshare(order)
        root.build(folder, order["python"], order["disk"])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return _NO_JAIL
    nothing = os.open("/dev/null", os.O_RDWR)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    deadline = time.monotonic() + order["seconds"]
    first = os.fork()
    if first == 0:
        _first_process(folder, order, uid, nothing)
    os.close(order["report"])
    while os.waitpid(first, os.WNOHANG) == (0, 0):
        left = deadline - time.monotonic()
        if left <= 0:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)  # returns once its whole namespace is dead
            sys.stdout.write("timed out")
            return _CONTAINED
        signal.sigtimedwait([signal.SIGCHLD], left)
    sys.stdout.write("ended")
    return _CONTAINED


def _unshare(order: dict[str, Any]) -> int | None:
    """Enter new namespaces; the uid for the program, or None if there is but one to have."""
    processes = order["limits"]["NPROC"]
    try:
        kernel.unshare(kernel.NEW_NAMESPACES)
    except OSError as error:
        # Root of one's own namespace is root outside, to whom no limit of processes applies.
        if error.errno != errno.EPERM or os.geteuid() == 0:
            raise
    else:
        order["limits"]["NPROC"] = processes + 2  # the worker and its thread
        return _UIDS + os.getpid()
    mine = os.geteuid(), os.getegid()
    kernel.unshare(kernel.NEW_USER | kernel.NEW_NAMESPACES)
    maps = {
        "setgroups": "deny",
        "uid_map": f"65534 {mine[0]} 1",
        "gid_map": f"65534 {mine[1]} 1",
    }
    for name, text in maps.items():
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    order["limits"]["NPROC"] = processes + 4  # all of the jail has this uid
    return None


def _first_process(folder: str, order: dict[str, Any], uid: int | None, nothing: int) -> None:
    """Process 1: starts the worker, and ends, with all that is left, once that has ended."""
    kernel.set_process(kernel.DIE_WITH_PARENT)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    report = order["report"]
    os.closerange(3, report)
    os.closerange(report + 1, 4096)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    second = os.fork()
    if second == 0:
        try:
            worker.enter(folder, order, uid)
            worker.work(order, report)
        finally:
            os._exit(1)
    os.close(report)
    while os.wait()[0] != second:  # the orphans of the program come here
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
