"""Processes: killed ones are replaced, two studies share a folder, an interrupt ends all.

A worker's start is seconds of imports, so there are few of them; a study that is to be killed is a
fork of this process, which has the imports.
"""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import study_fakes
from study_fakes import Inline, Unwatched, execute, numbers, plan

from loram.study.engine import Task
from loram.study.local import LocalEngine
from loram.study.runner import study
from loram.study.store import Store
from loram.study.worker import Done, Lost

forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def local(out, run=execute):
    return lambda: LocalEngine(out, run, workers=1, threads=1)


def records(out):
    return list((out / "runs").glob("*/record.json"))


def until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it took too long")


def test_a_killed_worker_is_replaced_and_its_run_goes_on(tmp_path):
    made = plan(lrs=None, recipe={"lrs": [1e-4]})
    out = tmp_path / "out"
    study(made, out, local(out, study_fakes.execute_and_die_once), watch=Unwatched())
    assert {each.status for each in Store(out).records()} == {"done"}
    (died,) = (out / "runs").glob("*/died")  # its folder was not emptied
    assert json.loads((died.parent / "record.json").read_text())["seed"] == 1
    assert len({file.read_text() for file in (out / "runs").glob("*/executed")}) == 2
    inline = tmp_path / "inline"
    study(made, inline, lambda: Inline(inline), watch=Unwatched())
    assert numbers(Store(out).records()) == numbers(Store(inline).records())


def test_a_dead_worker_is_lost_with_the_reason_and_an_idle_one_costs_nothing(tmp_path):
    made = plan()
    jobs = [made.job(made.blocks[0], "lora", lr, 0) for lr in (1e-4, 1e-3)]
    engine = LocalEngine(tmp_path, study_fakes.die_at_low_rates, workers=1, threads=1)
    try:
        engine.submit(Task(jobs[0]))
        assert engine.free == 0
        ((task, reply),) = wait(engine)
        assert task.job == jobs[0]
        assert isinstance(reply, Lost)
        assert "SIGKILL: out of memory" in reply.error
        assert engine.free == 1
        for k in (1, 2):
            engine.submit(Task(made.job(made.blocks[0], "lora", 1e-3, k)))
            ((task, reply),) = wait(engine)
            assert isinstance(reply, Done)
            trace = Store(tmp_path).folder(task.job.key) / "executed"
            if k == 1:
                os.kill(int(trace.read_text()), signal.SIGKILL)
                time.sleep(0.5)
    finally:
        engine.close()


def test_a_worker_that_hangs_is_dropped_and_replaced(tmp_path):
    made = plan()
    stuck, other = (made.job(made.blocks[0], name, 1e-3, 0) for name in ("loram", "lora"))
    trace = Store(tmp_path).folder(stuck.key) / "hung"
    engine = LocalEngine(tmp_path, study_fakes.hang, workers=1, threads=1)
    try:
        engine.submit(task := Task(stuck))
        until(lambda: trace.exists() and trace.read_text())
        engine.drop(task)
        assert not alive(int(trace.read_text()))
        assert engine.free == 1
        engine.submit(Task(other))
        ((task, reply),) = wait(engine)
        assert (task.job, type(reply)) == (other, Done)
    finally:
        engine.close()
    with Store(tmp_path).lock(stuck.key) as ours:
        assert ours


def wait(engine):
    for _ in range(1200):
        back = engine.wait(0.1)
        if back:
            return back
    raise AssertionError("nothing came back")


def test_two_studies_share_a_folder_and_no_run_is_done_twice(tmp_path):
    """Each with a worker of its own: locks are between processes."""
    ends = []

    def one():
        run = study_fakes.execute_slowly
        ends.append(study(plan(), tmp_path, local(tmp_path, run), watch=Unwatched()))

    both = [threading.Thread(target=one) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(180)
    first, second = (each.board.summary() for each in ends)
    assert first == second
    traces = [file.read_text().split() for file in (tmp_path / "runs").glob("*/executed")]
    assert all(len(trace) == 1 for trace in traces)
    assert len(traces) == len(records(tmp_path)) == 10


def fork(out):
    """A study in a process group of its own; 130 is its answer to an interrupt."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    with contextlib.suppress(BaseException):
        try:
            study(plan(), out, local(out, study_fakes.execute_slowly), watch=Unwatched())
            code = 0
        except KeyboardInterrupt:
            code = 130
    os._exit(code)


@forks
def test_an_interrupt_ends_soon_and_the_study_goes_on_later(tmp_path):
    pid = fork(tmp_path)
    until(lambda: len(records(tmp_path)) >= 2)
    began = time.monotonic()
    os.killpg(pid, signal.SIGINT)  # as a terminal does, to all of them
    _, status = os.waitpid(pid, 0)
    assert time.monotonic() - began < 3
    assert os.waitstatus_to_exitcode(status) == 130
    assert 2 <= len(records(tmp_path)) < 10
    study(plan(), tmp_path, lambda: Inline(tmp_path), watch=Unwatched())
    assert len(records(tmp_path)) == 10


@forks
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_of_a_killed_study_die_with_it(tmp_path):
    pid = fork(tmp_path)
    until(lambda: len(records(tmp_path)) >= 1)
    trace = next((tmp_path / "runs").glob("*/executed")).read_text()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not alive(int(trace)))
    assert len(records(tmp_path)) < 10


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except OSError:
        return False
