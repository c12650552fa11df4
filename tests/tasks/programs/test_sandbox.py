"""The sandbox: right programs pass; wrong and malicious ones fail, in time, without trace."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from loram.tasks.programs import sandbox as module
from loram.tasks.programs.sandbox import Limits, NotAllowedError, Sandbox, SandboxError

TEST = "assert one() == 1"


@pytest.fixture(scope="session")
def jail() -> Sandbox:
    try:
        return Sandbox(run_generated_code=True)
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.fixture(scope="session")
def narrow(jail) -> Sandbox:
    limits = Limits(seconds=1.0, memory_mb=256, disk_mb=16, processes=4)
    return Sandbox(run_generated_code=True, limits=limits)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    """Where jails are made: it stands in the command lines of this test's own, and of no others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return str(tmp_path)


def left(folder: str) -> list[str]:
    """Command lines of the processes that were started in `folder`."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if folder in line:
            found.append(line)
    return found


RIGHT = {
    "a function": ("def one():\n    return 1", TEST),
    "the library": (
        "import collections, heapq, re, math, random, datetime, hashlib, dataclasses\n"
        "@dataclasses.dataclass\nclass P:\n    x: 'int' = 1\n"
        "def one():\n    return min(heapq.nsmallest(1, [P().x, 5]))",
        TEST,
    ),
    "a file of its own": (
        "def one():\n    open('x', 'w').write('1')\n    return int(open('x').read())",
        TEST,
    ),
    "much output": ("print('x' * 10**7)\ndef one():\n    print('y' * 10**7)\n    return 1", TEST),
    "unicode": ("def one():\n    'Ünïcode ∑ 🦆'\n    return len('∑')", TEST),
    "no main": ("def one():\n    return 1\nif __name__ == '__main__':\n    raise SystemExit", TEST),
    "deep recursion": (
        "def f(n):\n    return n and 1 + f(n - 1)\ndef one():\n    return f(900) - 899",
        TEST,
    ),
    "a thread": (
        "import threading\ndef one():\n    said = []\n"
        "    t = threading.Thread(target=said.append, args=(1,))\n"
        "    t.start(); t.join()\n    return said[0]",
        TEST,
    ),
    "tests that import": (
        "def one():\n    return 1.0",
        "import math\nassert math.isclose(one(), 1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_pass(jail, name):
    assert jail.judge(*RIGHT[name]) == (True, "passed")


WRONG = {
    "a wrong answer": ("def one():\n    return 2", "AssertionError"),
    "an error": ("def one():\n    return 1 / 0", "ZeroDivisionError"),
    "no function": ("x = 1", "NameError"),
    "no Python": ("def one(:", "SyntaxError"),
    "nothing": ("", "NameError"),
    "a null byte": ("x = '\0'", "null"),
    "half a character": ("def one():\n    return '\ud800'", "UnicodeEncodeError"),
    "an error that can't be printed": (
        "class E(Exception):\n    def __str__(self):\n        raise SystemExit(0)\n"
        "def one():\n    raise E",
        "",
    ),
    "input": ("def one():\n    return int(input())", "EOFError"),
    "endless recursion": ("def one():\n    return one()", "RecursionError"),
    "a nest of brackets": ("x = " + "(" * 10**5 + ")" * 10**5, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_fail_and_say_why(jail, name):
    program, why = WRONG[name]
    verdict = jail.judge(program, TEST)
    assert not verdict.passed
    assert why in verdict.why


# Each would pass, or harm, or last, if nothing held it.
MALICIOUS = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "fork bomb that hides": (
        "import os\n"
        "while True:\n    try:\n        os.fork() or os.setsid()\n    except OSError:\n        pass"
    ),
    "thread bomb": (
        "import threading, time\n"
        "while True:\n    threading.Thread(target=time.sleep, args=(99,)).start()"
    ),
    "endless loop": "while True:\n    pass",
    "endless loop that catches": (
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except BaseException:\n        pass"
    ),
    "deaf to signals": (
        "import signal\n"
        "for n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True:\n    pass"
    ),
    "sleep for ever": "import time\ntime.sleep(10**6)",
    "a lock for ever": "import threading\nthreading.Lock().acquire() and threading.Event().wait()",
    "10 GB of memory": "x = bytearray(10 * 2**30)\ndef one():\n    return 1",
    "memory in pieces": "x = []\nwhile True:\n    x.append(bytearray(2**20))",
    "1 GB of output": (
        "import os\nfor _ in range(1024):\n    os.write(1, b'x' * 2**20)\nraise OSError"
    ),
    "1 GB of files": (
        "for n in range(1024):\n    open(f'{n}', 'wb').write(b'x' * 2**20)\n"
        "def one():\n    return 1"
    ),
    "one big file": "open('x', 'wb').truncate(2**40)\ndef one():\n    return 1",
    "files without end": (
        "for n in range(10**6):\n    open(f'{n}', 'w').close()\ndef one():\n    return 1"
    ),
    "kill everyone": "import os\nos.kill(-1, 9)\ndef one():\n    return 2",
    "kill process 1": "import os\nos.kill(1, 9)\ndef one():\n    return 2",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)\ndef one():\n    return 2",
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "sys.exit(0) in the function": "import sys\ndef one():\n    sys.exit(0)",
    "os._exit(0)": "import os\nos._exit(0)",
    "os._exit(0) in the function": "import os\ndef one():\n    os._exit(0)",
    "an exit code of its own": (
        "import os, sys, atexit\natexit.register(os._exit, 0)\nos._exit = lambda n: None\n"
        "sys.exit = lambda n: None\ndef one():\n    raise KeyboardInterrupt"
    ),
    "an abort": "import os\nos.abort()",
    "a crash": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return f([x])\nf(1)",
    "own assertions": "class AssertionError(BaseException):\n    pass\ndef one():\n    return 2",
    "no assertions": (
        "import builtins\nbuiltins.AssertionError = None\n"
        "builtins.exec = builtins.compile = print\ndef one():\n    return 2"
    ),
    "own built-ins": (
        "import builtins\nbuiltins.abs = lambda x: 1\ndef abs(x):\n    return 1\n"
        "__builtins__ = {}\ndef one():\n    return 2"
    ),
    "a word to the report": (
        "import os\nfor n in range(3, 64):\n    try:\n        os.write(n, b'passed')\n"
        "    except OSError:\n        pass\nos._exit(0)"
    ),
    "a flood to the report": (
        "import os\nfor n in range(3, 64):\n    try:\n        os.write(n, b'x' * 10**8)\n"
        "    except OSError:\n        pass\ndef one():\n    return 1"
    ),
    "a look up the stack": (
        "import os, sys\nframe = sys._getframe()\nwhile frame:\n"
        "    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "        if isinstance(value, str) and len(value) == 32:\n"
        "            for n in range(3, 64):\n                try:\n"
        "                    os.write(n, value.encode())\n                except OSError:\n"
        "                    pass\n    frame = frame.f_back\nos._exit(0)"
    ),
}  # fmt: skip
TESTS = {"own built-ins": "assert abs(one()) == 1"}


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_programs_fail_and_leave_nothing(narrow, folder, name):
    began = time.monotonic()
    verdict = narrow.judge(MALICIOUS[name], TESTS.get(name, TEST))
    assert not verdict.passed, verdict
    assert time.monotonic() - began < 8
    assert left(folder) == []
    assert os.listdir(folder) == []


HIDDEN_MEMORY = {
    "a shared segment": "shmget(0, 4096, 0o1600)",
    "a message queue": "msgget(0, 0o1600)",
    "a file without a name": "memfd_create(b'x', 0)",
    "a secret file": "syscall(447, 0)",
}


@pytest.mark.parametrize("name", HIDDEN_MEMORY)
def test_memory_that_no_limit_counts_is_refused(jail, name):
    program = (
        "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"def one():\n    got = libc.{HIDDEN_MEMORY[name]}\n"
        "    return got == -1 and ctypes.get_errno() == errno.EPERM"
    )
    assert jail.judge(program, TEST) == (True, "passed")


def test_a_daemon_dies_with_the_program(jail, folder):
    """Forked twice, in a session of its own, from a program that ends and passes."""
    daemon = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        while True:\n            time.sleep(0.01)\n            open('x', 'a').write('x')\n"
        "    os._exit(0)\ndef one():\n    time.sleep(0.2)\n    return int(os.path.exists('x'))"
    )
    assert jail.judge(daemon, TEST).passed  # it did run
    assert left(folder) == []


def test_files_outside_are_neither_seen_nor_written_nor_deleted(jail, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    os.chmod(tmp_path, 0o777)
    os.chmod(kept, 0o666)
    assert not jail.judge(
        f"def one():\n    return len(open({str(kept)!r}).read()) // 4", TEST
    ).passed
    places = [kept, tmp_path / "new", Path(module.__file__), Path(os.__file__), "/usr/x", "/x"]
    for what in ("open({!r}, 'w').write('x')", "os.remove({!r})", "os.mkdir({!r})"):
        tried = "\n".join(
            f"try:\n    {what.format(str(place))}\nexcept OSError:\n    held += 1"
            for place in places
        )
        program = f"import os\nheld = 0\n{tried}\ndef one():\n    return held == {len(places)}"
        assert jail.judge(program, TEST) == (True, "passed")
    removed = "import shutil\nshutil.rmtree('/', ignore_errors=True)\ndef one():\n    return 1"
    jail.judge(removed, TEST)
    assert kept.read_text() == "kept"
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]
    assert Path(os.__file__).exists()


def test_the_network_is_not_there(jail):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        program = (
            "import socket\ntried = []\n"
            f"for where in [('127.0.0.1', {port}), ('1.1.1.1', 53)]:\n"
            "    try:\n        socket.create_connection(where, timeout=1)\n"
            "    except OSError as error:\n        tried.append(type(error).__name__)\n"
            "def one():\n    return len(tried) == 2"
        )
        assert jail.judge(program, TEST).passed
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_rights_are_left(jail):
    program = (
        "import os, ctypes\nlibc = ctypes.CDLL(None)\n"
        "refused = [libc.unshare(flag) != 0 for flag in (0x10000000, 0x00020000, 0x40000000)]\n"
        "for call in (lambda: os.setuid(0), lambda: os.chroot('/work')):\n"
        "    try:\n        call()\n    except OSError:\n        refused.append(True)\n"
        "def one():\n    return len(refused) == 5 and all(refused) and os.getuid() != 0 \\\n"
        "        and dict(os.environ) == {} and not os.path.exists('/proc/1')"
    )
    assert jail.judge(program, TEST) == (True, "passed")


def test_a_builtin_counts_as_the_programs_own_where_it_is_asked_for(jail):
    program = "def sum(a, b):\n    return a + b"
    assert jail.judge(program, "assert sum(1, 2) == 3", provides=["sum"]).passed
    assert not jail.judge(program, "assert sum(1, 2) == 3").passed


def test_nothing_is_run_unless_that_is_said(monkeypatch):
    monkeypatch.setattr(module.subprocess, "Popen", None)
    with pytest.raises(NotAllowedError, match="--run-generated-code"):
        Sandbox()


def test_where_there_is_no_jail_nothing_is_run(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match=r"expected Linux.*got darwin"):
        Sandbox(run_generated_code=True)
    monkeypatch.undo()
    (tmp_path / "__main__.py").write_text(
        "import sys\nprint('unshare: no', file=sys.stderr)\nsys.exit(125)"
    )
    monkeypatch.setattr(module, "_JAIL", tmp_path)
    with pytest.raises(SandboxError, match=r"got: unshare: no\. In a container"):
        Sandbox(run_generated_code=True)


def test_limits_too_low_for_python_are_told_apart_from_wrong_programs(jail):
    with pytest.raises(SandboxError, match="expected an empty program to pass"):
        Sandbox(run_generated_code=True, limits=Limits(memory_mb=1))


@pytest.mark.parametrize(
    "limits",
    [
        {"seconds": -1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"memory_mb": 0},
        {"disk_mb": 0},
        {"processes": -1},
    ],
)
def test_limits_are_checked(limits):
    with pytest.raises(ValueError, match="expected limits above 0"):
        Limits(**limits)


def test_a_jail_dies_with_the_process_that_judges(jail, folder):
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('sandbox', {module.__file__!r})\n"
        "sandbox = sys.modules['sandbox'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(sandbox)\n"
        "jail = sandbox.Sandbox(run_generated_code=True, limits=sandbox.Limits(seconds=60))\n"
        "print('ready', flush=True)\njail.judge('import time\\ntime.sleep(50)', '')"
    )
    judge = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": folder},
        stdout=subprocess.PIPE,
    )
    with judge:
        assert judge.stdout is not None
        assert judge.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 10
        while not left(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        assert left(folder)
        judge.kill()
    deadline = time.monotonic() + 5
    while left(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left(folder) == []
