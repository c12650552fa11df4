"""The innermost process: gives up every right, runs the program, then its tests, then reports."""

import builtins
import os
import resource
import sys
import threading
import types
from typing import Any

import kernel
from root import WORK

__all__ = ["enter", "work"]


def enter(root: str, order: dict[str, Any], uid: int | None) -> None:
    """Leave what is outside behind: files, rights, and more than the limits allow.

    Args:
        root: as laid out by `root.build`.
        order: as `__main__` reads it.
        uid: to change to; None where the user namespace has one user only.
    """
    os.chroot(root)
    os.chdir(WORK)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.set_process(kernel.NO_NEW_PRIVILEGES)
    kernel.set_process(kernel.NOT_DUMPABLE)
    kernel.forbid_hidden_memory()
    for name, value in order["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    os.environ.clear()


def work(order: dict[str, Any], report: int) -> None:
    """Run the program and its tests; write the token to `report` if both came to their ends.

    The program runs in a thread of its own, so that no frame it can walk up to holds the token,
    and the tests get names the program can't have replaced: built-in functions are those of before.
    """
    token: str = order["token"]
    write, leave, run, read_names = os.write, os._exit, exec, dict
    own = dict(vars(builtins))
    provides = {*order["provides"]}
    said: list[str | None] = []
    sources = [order["program"], order["tests"]]
    order.clear()

    def tested() -> None:
        try:
            program, tests = (compile(each, "<program>", "exec") for each in sources)
            module = types.ModuleType("program")
            sys.modules["program"] = sys.modules["__main__"] = module
            run(program, module.__dict__)
            names = {
                name: value
                for name, value in read_names(module.__dict__).items()
                if name not in own or name in provides
            }
            names["__builtins__"] = own
            run(tests, names)
        except BaseException as error:
            said.append(f"{type(error).__name__}: {error}"[:300])
        else:
            said.append(None)

    for name in ("kernel", "root", "worker", "ctypes"):
        sys.modules.pop(name, None)
    thread = threading.Thread(target=tested)
    thread.start()
    thread.join()
    if said == [None]:
        write(report, token.encode())
    else:
        write(report, f"{said[0] if said else 'its thread died'}".encode(errors="replace"))
    leave(0)
