"""Running a generated program and its tests where they can do little harm, on Linux.

    >>> Sandbox(run_generated_code=True).judge("def one(): return 1", "assert one() == 1")
    Verdict(passed=True, why='passed')

The program runs as a process of its own with another user id and no capabilities, in namespaces of
its own: no network, no sight of other processes, no files but Python's library (read-only) and an
empty folder in memory. Time, memory, files and processes are limited; everything it started dies
with it. That contains accidents and the code of benchmarks. It is no security boundary against an
attacker with a hole in the kernel at hand: use a virtual machine for that.
"""

import json
import math
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["Limits", "NotAllowedError", "Sandbox", "SandboxError", "Verdict"]

_JAIL = Path(__file__).with_name("_jail")
_MB = 2**20
_GRACE = 15.0  # seconds for the jail to be built and torn down
_CONTAINED, _NO_JAIL = 0, 125  # of _jail/__main__.py


class NotAllowedError(ValueError):
    """Generated code is not run unless that was asked for."""


class SandboxError(RuntimeError):
    """This machine can't contain a program; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: of wall-clock time, and of processor time per process.
        memory_mb: of address space per process.
        disk_mb: of all files together, which lie in memory.
        processes: that it may start, threads included.
    """

    seconds: float = 10.0
    memory_mb: int = 1024
    disk_mb: int = 64
    processes: int = 4

    def __post_init__(self) -> None:
        values = (self.seconds, self.memory_mb, self.disk_mb)
        if not all(math.isfinite(value) and value > 0 for value in values) or self.processes < 0:
            raise ValueError(f"expected limits above 0 (processes: 0 or more), got {self}")


class Verdict(NamedTuple):
    """Whether every test passed, and why not; `why` may be the program's own words."""

    passed: bool
    why: str


class Sandbox:
    """Judges programs.

    Args:
        run_generated_code: must be said, in so many words.
        limits: of each program.

    Raises:
        NotAllowedError: it was not said.
        SandboxError: there is no jail to be had here; nothing is run without one.
    """

    def __init__(self, *, run_generated_code: bool = False, limits: Limits | None = None) -> None:
        if not run_generated_code:
            raise NotAllowedError(
                "this task runs programs that a model wrote, on this machine, and expected to be "
                "allowed to: pass run_generated_code=True (--run-generated-code) if they may run "
                "in the sandbox that docs/benchmarks.md describes"
            )
        self.limits = Limits() if limits is None else limits
        found = self.judge("import heapq, random, typing", "assert True")
        if not found.passed:
            raise SandboxError(
                f"expected an empty program to pass in the sandbox, got {found.why!r}: allow more "
                f"than {self.limits}, or use another installation of Python"
            )

    def judge(self, program: str, tests: str, *, provides: Collection[str] = ()) -> Verdict:
        """Run a program, then its tests; it has passed if both come to their ends.

        Args:
            program: Python source.
            tests: Python source that runs after it and sees its names.
            provides: names of built-in functions the program is asked to define; others of its
                names that hide a built-in function are not seen by the tests.

        Raises:
            SandboxError: the jail can't be built.
        """
        if not sys.platform.startswith("linux"):
            raise SandboxError(
                f"expected Linux, whose namespaces contain the program, got {sys.platform}: judge "
                "programs on Linux, or in a Linux container or virtual machine"
            )
        token = secrets.token_hex(16)
        heard, report = os.pipe()
        order = self._order() | {
            "program": program,
            "tests": tests,
            "provides": sorted(provides),
            "token": token,
            "report": report,
        }
        try:
            with tempfile.TemporaryDirectory(prefix="loram-") as folder:
                ended = _start(order, folder, report)
            os.set_blocking(heard, False)
            os.close(report)
            report = -1
            try:
                said = os.read(heard, 4096)
            except BlockingIOError:  # nothing yet, and what could write is being killed
                said = b""
        finally:
            os.close(heard)
            if report >= 0:
                os.close(report)
        if ended == "timed out":
            return Verdict(False, f"timed out after {self.limits.seconds:g} s")
        if ended == "ended" and said == token.encode():
            return Verdict(True, "passed")
        return Verdict(False, said.decode(errors="replace") or "died before its tests had passed")

    def _order(self) -> dict[str, object]:
        limits = self.limits
        seconds = math.ceil(limits.seconds)
        return {
            "parent": os.getpid(),
            "python": sorted({sys.base_prefix, sys.base_exec_prefix}),
            "seconds": limits.seconds,
            "disk": limits.disk_mb * _MB,
            "limits": {
                "CPU": seconds,
                "AS": limits.memory_mb * _MB,
                "FSIZE": limits.disk_mb * _MB,
                "NPROC": limits.processes,
                "NOFILE": 64,
                "CORE": 0,
            },
        }

    def __repr__(self) -> str:
        return f"Sandbox({self.limits})"


def _start(order: dict[str, object], folder: str, report: int) -> str:
    """Run the jail to its end; `ended`, `timed out`, or `killed`."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_JAIL), folder],
        cwd=folder,
        env=kept,  # for the interpreter itself; the program's environment is empty
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(report,),
        start_new_session=True,
    ) as jail:
        try:
            allowed = float(str(order["seconds"])) + _GRACE
            out, errors = jail.communicate(json.dumps(order).encode(), timeout=allowed)
        except subprocess.TimeoutExpired:
            jail.kill()
            return "killed"
        except BaseException:
            jail.kill()  # what runs in it dies with it
            raise
    if jail.returncode == _CONTAINED:
        return out.decode().strip()
    if jail.returncode < 0:  # out of memory, as a rule
        return "killed"
    reason = (errors.decode(errors="replace").strip() or "no reason given").splitlines()[-1]
    raise SandboxError(
        "expected Linux 5.12 or newer that lets this user make namespaces (root with "
        "CAP_SYS_ADMIN, or another user where unprivileged user namespaces are on), got: "
        f"{reason}. In a container, allow it (docker run --cap-add SYS_ADMIN --security-opt "
        "apparmor=unconfined), or judge elsewhere"
    )
