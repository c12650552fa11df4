"""The loop: what is done, skipped, tried again, given up, and left for the next time."""

import itertools
import json
from types import SimpleNamespace

import pytest
from study_fakes import (
    Inline,
    Unwatched,
    execute,
    full_disk,
    numbers,
    plan,
    score,
    spec,
)

from loram.study.errors import DiskFullError
from loram.study.estimate import forecast
from loram.study.execute import record
from loram.study.report.read import read_study
from loram.study.runner import End, study
from loram.study.spec import read
from loram.study.store import Store
from loram.study.worker import work


def do(out, made, run=execute, **options):
    engine, watch = Inline(out, run), Unwatched()
    finished = study(made, out, lambda: engine, watch=watch, **options)
    assert engine.closed
    return finished, engine, watch


def test_a_study_sweeps_extends_and_runs_the_best_with_all_seeds(tmp_path):
    finished, engine, watch = do(tmp_path, plan(recipe={"lrs": [1e-3, 2e-4]}))
    assert (finished.end, finished.left) == (End.DONE, 0)
    ran = {(job.method, job.lr, job.seed) for job in engine.submitted}
    grid = {1e-4, 1e-3, 1e-2, 1e-1}  # LoRAM's best, 1e-2, was at the edge
    tuned = set(itertools.product(("lora", "loram"), grid, (0,)))
    fixed = set(itertools.product(("lora", "loram"), (1e-3, 2e-4), (0, 1)))
    assert ran == tuned | fixed | {("lora", 1e-3, 1), ("loram", 1e-2, 1)}
    assert len(ran) == len(engine.submitted) == len(watch.seen) == len(Store(tmp_path).records())
    assert read(tmp_path / "study.yaml") == spec(recipe={"lrs": [1e-3, 2e-4]})
    written = json.loads((tmp_path / "plan.json").read_text())
    (sweep,) = written["sweeps"]
    assert sweep["best"] == {"lora": 1e-3, "loram": 1e-2}
    assert (sweep["stage"], sweep["edges"], sweep["lrs"]) == ("done", {}, sorted(grid))
    roles = {(r["method"], r["lr"], r["seed"]): r["roles"] for r in written["runs"]}
    assert roles["lora", 1e-3, 0] == ["tuning", "final", "recipe"]
    assert roles["lora", 1e-3, 1] == ["final", "recipe"]
    assert roles["lora", 2e-4, 1] == ["recipe"]
    assert roles["loram", 1e-1, 0] == ["tuning"]
    assert {r["status"] for r in written["runs"]} == {"done"}


def test_a_study_that_is_done_runs_nothing_and_says_the_same(tmp_path):
    first, _, _ = do(tmp_path, plan())
    again, engine, _ = do(tmp_path, plan())
    assert engine.submitted == []
    assert again.board.summary() == first.board.summary()


def test_other_studies_in_the_folder_share_equal_runs(tmp_path):
    do(tmp_path, plan())
    _, engine, _ = do(tmp_path, plan(name="more", methods=["loram", "pissa"], seeds=[0, 1, 2]))
    assert {(job.method, job.seed) for job in engine.submitted} == {
        ("loram", 2),
        *(("pissa", seed) for seed in (0, 1, 2)),
    }


def test_a_study_stopped_anywhere_goes_on_to_the_same_end(tmp_path):
    whole, _, _ = do(tmp_path / "whole", plan())
    expected = numbers(Store(tmp_path / "whole").records())
    for after in range(1, len(expected), 3):
        out = tmp_path / str(after)
        count = itertools.count(1)

        def stopped(job, folder, count=count, after=after):
            if next(count) == after:
                raise KeyboardInterrupt
            return execute(job, folder)

        with pytest.raises(KeyboardInterrupt):
            do(out, plan(), stopped)
        assert len(Store(out).records()) == after - 1
        finished, engine, _ = do(out, plan())
        assert len(engine.submitted) == len(expected) - after + 1
        assert numbers(Store(out).records()) == expected
        assert finished.board.summary() == whole.board.summary()


def test_a_damaged_record_is_done_again(tmp_path):
    do(tmp_path, plan())
    expected = numbers(Store(tmp_path).records())
    file = next((tmp_path / "runs").glob("*/record.json"))
    file.write_text(file.read_text()[:100])
    _, engine, _ = do(tmp_path, plan())
    assert [job.key[:16] for job in engine.submitted] == [file.parent.name]
    assert numbers(Store(tmp_path).records()) == expected


def test_a_run_that_fails_is_tried_again_from_nothing_then_recorded(tmp_path):
    tries = []

    def broken(job, folder):
        if job.method == "loram" and job.seed == 1:
            tries.append(sorted(each.name for each in folder.iterdir()))
            (folder / "settings.json").write_text(json.dumps(dict(job.settings)))
            raise RuntimeError("no luck")
        return execute(job, folder)

    finished, _, watch = do(tmp_path, plan(retries=2), broken)
    assert finished.end is End.DONE
    assert tries == [[], [], []]
    (failed,) = [each for _, each in watch.seen if each.status == "failed"]
    assert failed.error == "RuntimeError: no luck"
    where = Store(tmp_path).folder(failed.key) / "error.txt"
    assert "in broken" in where.read_text()
    assert (failed.metric, failed.better, failed.validation) == ("loss", "low", {})
    # It is tried again by the next call, and only it.
    _, engine, _ = do(tmp_path, plan())
    assert [job.key for job in engine.submitted] == [failed.key]


class Hanging(Inline):
    """Its first attempts at a method never come back."""

    def __init__(self, out, method, times):
        super().__init__(out)
        self._method, self._times = method, times
        self.dropped = []

    def wait(self, timeout):
        if self._task.job.method == self._method and len(self.dropped) < self._times:
            return []
        return super().wait(timeout)

    def drop(self, task):
        assert task is self._task
        self._task = None
        self.dropped.append(task)


@pytest.mark.parametrize(("times", "status"), [(1, "done"), (2, "failed")])
def test_a_run_that_hangs_is_ended_after_its_hours(tmp_path, monkeypatch, times, status):
    looks = itertools.count(0, 600)  # ten minutes pass between any two at the clock
    clock = SimpleNamespace(monotonic=lambda: next(looks))
    monkeypatch.setattr("loram.study.runner.time", clock)
    made = plan(lrs=None, recipe={"lrs": [1e-3]}, seeds=[0], run_hours=1.5, retries=1)
    engine, watch = Hanging(tmp_path, "loram", times), Unwatched()
    finished = study(made, tmp_path, lambda: engine, watch=watch)
    assert finished.end is End.DONE
    assert [task.job.method for task in engine.dropped] == ["loram"] * times
    assert not any(task.clean for task in engine.dropped)  # it goes on from its checkpoint
    found = {job.method: each for job, each in watch.seen}
    assert (found["lora"].status, found["loram"].status) == ("done", status)
    if status == "failed":
        assert found["loram"].error == "not done after the 1.5 hours of `run_hours`"


def test_hours_of_waiting_for_a_place_are_not_the_runs(tmp_path, monkeypatch):
    class Busy(Hanging):
        looks = 0

        def begun(self, task):
            self.looks += 1
            return self.looks > 20  # more than three hours

    looks = itertools.count(0, 600)
    monkeypatch.setattr("loram.study.runner.time", SimpleNamespace(monotonic=lambda: next(looks)))
    made = plan(lrs=None, recipe={"lrs": [1e-3]}, methods=["loram"], seeds=[0], run_hours=1.5)
    engine = Busy(tmp_path, "loram", times=1)
    study(made, tmp_path, lambda: engine, watch=Unwatched())
    assert len(engine.dropped) == 1
    assert engine.looks >= 30


def test_a_run_that_ends_as_it_is_dropped_is_done(tmp_path, monkeypatch):
    class Late(Hanging):
        def drop(self, task):
            work(task.job, tmp_path, execute)
            super().drop(task)

    looks = itertools.count(0, 600)
    monkeypatch.setattr("loram.study.runner.time", SimpleNamespace(monotonic=lambda: next(looks)))
    made = plan(lrs=None, recipe={"lrs": [1e-3]}, seeds=[0], run_hours=1.5, retries=0)
    engine, watch = Late(tmp_path, "loram", times=1), Unwatched()
    study(made, tmp_path, lambda: engine, watch=watch)
    assert len(engine.dropped) == 1
    assert {each.status for _, each in watch.seen} == {"done"}
    assert {each.status for each in Store(tmp_path).records()} == {"done"}


class Held(Inline):
    """Another process takes the run of LoRAM at the moment that `taken` names, and does it."""

    def __init__(self, out, taken, status, run=execute):
        super().__init__(out, run)
        self._taken, self._status = taken, status
        self._lock = self._held = None

    def submit(self, task):
        if self._taken == "before":
            self._take(task.job)
        super().submit(task)

    def wait(self, timeout):
        found = super().wait(timeout)
        if self._taken == "given up":
            self._take(found[0][0].job)
        return found

    def _take(self, job):
        if self._held is None and job.method == "loram":
            self._held, self._lock = job, Store(self._out).lock(job.key)
            assert self._lock.__enter__()

    def let_go(self):
        if self._lock is not None:
            test = {"loss": 0.5} if self._status == "done" else {}
            if self._status is not None:
                values = {"validation": test, "test": test}
                Store(self._out).write(record(self._held, self._status, **values))
            self._lock.__exit__(None, None, None)
            self._lock = None


class LetGo(Unwatched):
    """The other process ends its run at the third look."""

    def __init__(self, engine):
        super().__init__()
        self._engine, self._looks = engine, itertools.count()

    def show(self, board, running):
        if next(self._looks) == 3:
            self._engine.let_go()


def fail(job, folder):
    if job.method == "loram":
        raise RuntimeError("no luck")
    return execute(job, folder)


@pytest.mark.parametrize(
    ("taken", "status", "run", "ended", "tries"),
    [
        ("before", "done", execute, "done", 1),
        ("before", "failed", execute, "failed", 1),  # both processes see the same
        ("before", None, execute, "done", 2),  # it was killed
        ("given up", "done", fail, "done", 1),
        ("given up", "failed", fail, "failed", 1),
        ("given up", None, fail, "failed", 1),
    ],
)
def test_what_comes_of_a_run_that_another_process_is_at_counts(
    tmp_path, taken, status, run, ended, tries
):
    made = plan(lrs=None, recipe={"lrs": [1e-3]}, seeds=[0], retries=0)
    engine = Held(tmp_path, taken, status, run)
    watch = LetGo(engine)
    assert study(made, tmp_path, lambda: engine, watch=watch).end is End.DONE
    found = {job.method: each for job, each in watch.seen}
    assert (found["lora"].status, found["loram"].status) == ("done", ended)
    assert len(watch.seen) == 2
    assert sum(job.method == "loram" for job in engine.submitted) == tries
    on_disk = {each.method: each for each in Store(tmp_path).records()}
    assert on_disk["loram"] == found["loram"]


def test_a_result_from_a_machine_of_its_own_takes_the_place_of_a_failure(tmp_path):
    made = plan(lrs=None, recipe={"lrs": [1e-3]}, seeds=[0], retries=0)
    do(tmp_path / "here", made, fail)

    class Apart(Inline):
        """Its folder is not this one: records come back by value."""

    engine = Apart(tmp_path / "there")
    study(made, tmp_path / "here", lambda: engine, watch=Unwatched())
    assert [job.method for job in engine.submitted] == ["loram"]
    assert {each.status for each in Store(tmp_path / "here").records()} == {"done"}


def test_an_error_that_passes_leaves_no_mark(tmp_path):
    failed = []

    def flaky(job, folder):
        if not failed:
            failed.append(job.key)
            raise RuntimeError("once")
        return execute(job, folder)

    do(tmp_path / "flaky", plan(), flaky)
    do(tmp_path / "sound", plan())
    assert failed
    assert numbers(Store(tmp_path / "flaky").records()) == numbers(
        Store(tmp_path / "sound").records()
    )


def test_a_run_that_diverged_is_a_result_and_not_repeated(tmp_path):
    def divergent(job, folder):
        if job.method == "loram" and job.lr > 5e-3:
            return record(job, "diverged", error="the loss is nan")
        return execute(job, folder)

    finished, engine, _ = do(tmp_path, plan(retries=3), divergent)
    (sweep,) = finished.board.summary()["sweeps"]
    assert sweep["best"] == {"lora": 1e-3, "loram": 1e-3}
    assert sum(job.lr > 5e-3 and job.method == "loram" for job in engine.submitted) == 1
    (_, row) = finished.board.rows()
    assert (row.diverged, row.failed, row.done) == (1, 0, row.total)
    _, engine, _ = do(tmp_path, plan())
    assert engine.submitted == []


def test_the_table_shows_the_rate_that_was_chosen(tmp_path):
    """Not one that looks better once seeds are known that it was not chosen by."""

    def luckless(job, folder):
        loss = {"loss": 9.0 if job.seed == 1 else score(job)}
        return record(job, "done", validation=loss, test=loss, wall_seconds=0.01)

    finished, _, _ = do(tmp_path, plan(recipe={"lrs": [2e-3]}), luckless)
    (sweep,) = finished.board.summary()["sweeps"]
    rows = {row.method: row for row in finished.board.rows()}
    assert {name: row.lr for name, row in rows.items()} == sweep["best"]
    assert rows["lora"].score == pytest.approx(0)


def test_a_full_disk_ends_the_study_and_fails_no_run(tmp_path):
    count = itertools.count()

    def filling(job, folder):
        return execute(job, folder) if next(count) < 3 else full_disk(job, folder)

    with pytest.raises(DiskFullError, match="make room and give the same command again"):
        do(tmp_path, plan(), filling)
    assert [each.status for each in Store(tmp_path).records()] == ["done"] * 3
    _, engine, _ = do(tmp_path, plan())
    assert {each.status for each in Store(tmp_path).records()} == {"done"}
    assert len(engine.submitted) == len(Store(tmp_path).records()) - 3


def test_a_disk_too_full_for_the_plan_is_said_too(tmp_path, monkeypatch):
    def no_room(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loram.study.store.write_text", no_room)
    with pytest.raises(DiskFullError, match="No space left"):
        do(tmp_path, plan())


def test_after_the_time_limit_no_run_starts_and_what_is_left_is_said(tmp_path):
    finished, engine, _ = do(tmp_path, plan(), limit_seconds=0)
    assert (finished.end, finished.left) == (End.LIMIT, 6)
    assert engine.submitted == []


def test_fixed_rates_only(tmp_path):
    finished, engine, _ = do(tmp_path, plan(lrs=None, recipe={"lrs": [1e-4]}))
    assert len(engine.submitted) == 4
    assert finished.board.summary()["sweeps"] == []


def test_every_task_and_rank_has_a_sweep_of_its_own(tmp_path):
    made = plan(
        tasks=["answers", {"task": "answers", "label": "longer", "steps": 50}], ranks=[2, 4]
    )
    finished, _, _ = do(tmp_path, made)
    assert {(s["task"], s["rank"]) for s in finished.board.summary()["sweeps"]} == {
        *(("answers", 2), ("answers", 4), ("longer", 2), ("longer", 4))
    }


def test_the_forecast_is_what_is_then_run_but_for_extensions(tmp_path):
    made = plan(lrs={"low": 1e-4, "high": 1e-1, "per_decade": 1}, recipe={"lrs": [2e-4]})
    before = forecast(made, [])
    assert before.hours is None
    _, engine, _ = do(tmp_path, made)
    (line,) = before.lines
    assert line.total == len(engine.submitted)
    assert (line.methods, line.rates, line.tuning, line.final, line.recipe) == (2, 4, 4, 1, 2)
    after = forecast(made, Store(tmp_path).records())
    assert after.lines[0].done == after.lines[0].total == len(engine.submitted)
    assert after.hours == 0
    declared = forecast(plan(seconds=36.0, workers=2), [])
    assert declared.hours == pytest.approx(declared.lines[0].total * 36 / 3600 / 2)


def test_the_report_knows_a_studys_own_runs_from_those_of_others(tmp_path):
    do(tmp_path, plan(methods=["pissa"]))
    methods = ["lora", {"method": "loram", "label": "ours", "rslora": True, "magnitudes_every": 3}]
    _, engine, _ = do(tmp_path, plan(methods=methods, recipe={"lrs": [2e-4]}))
    found = read_study(tmp_path)
    assert {(run.label, run.record.key) for run in found.results.runs} == {
        (job.method, job.key) for job in engine.submitted
    }
    assert found.foreign == len(Store(tmp_path).records()) - len(engine.submitted) > 0
