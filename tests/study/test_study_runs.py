"""Real runs on a tiny model: the same numbers by any number of workers, by Ray, and after kills."""

import os
import random
import shutil
import signal
import time

import pytest
from study_fakes import Inline, Unwatched, numbers, spec
from test_local import forks, records, until

from loram.study.engine import Task
from loram.study.errors import StudyError
from loram.study.execute import execute
from loram.study.local import LocalEngine
from loram.study.plan import Plan
from loram.study.runner import study
from loram.study.spec import Spec
from loram.study.store import Store
from loram.study.versions import deciding


@pytest.fixture(scope="module")
def made(tiny_model, sums):
    """Six runs of four steps, a checkpoint each; dropout, which needs the random state."""
    base = {
        "model": str(tiny_model),
        "data": str(sums),
        "steps": 4,
        "save_every": 1,
        "judge_every": 2,
        "warmup_steps": 1,
        "batch_size": 2,
        "dropout": 0.1,
        "dtype": "float32",
        "held_out_size": 4,
        "validation_size": 4,
    }
    values = {
        "name": "tiny",
        "base": base,
        "tasks": ["answers"],
        "methods": ["lora", {"method": "loram", "rslora": True}],
        "ranks": [4],
        "recipe": {"lrs": [1e-2]},
        "seeds": [0, 1, 2],
    }
    return Plan(Spec.model_validate(values), deciding())


@pytest.fixture(scope="module")
def undisturbed(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "undisturbed"
    study(made, out, lambda: Inline(out, execute), watch=Unwatched())
    return out


def test_records_hold_what_was_measured(made, undisturbed):
    found = Store(undisturbed).records()
    assert len(found) == 6
    for each in found:
        assert (each.status, each.metric, each.better) == ("done", "loss", "low")
        assert each.validation["loss"] > 0
        assert each.test["loss"] > 0
        assert [point.step for point in each.curve] == [2, 4]
        assert len(each.losses) == 4
        assert each.update is not None
        assert each.update > 0
        assert each.trainable
        assert each.wall_seconds is not None
        assert each.train_seconds is not None
        assert each.wall_seconds > each.train_seconds > 0
        left = {file.name for file in Store(undisturbed).folder(each.key).iterdir()}
        assert not left & {"adapter", "checkpoints", "start"}
        assert left >= {"record.json", "results.json", "losses.jsonl", "curve.jsonl"}
    assert len({each.test["loss"] for each in found}) == 6


def test_two_workers_give_the_numbers_of_one(made, undisturbed, tmp_path):
    study(
        made,
        tmp_path,
        lambda: LocalEngine(tmp_path, execute, workers=2, threads=1),
        watch=Unwatched(),
    )
    assert numbers(Store(tmp_path).records()) == numbers(Store(undisturbed).records())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_ray_gives_the_numbers_of_one_worker(made, undisturbed, tmp_path):
    pytest.importorskip("ray")
    from loram.study.cluster import RayEngine

    study(
        made,
        tmp_path,
        lambda: RayEngine(tmp_path, execute, workers=2, threads=1),
        watch=Unwatched(),
    )
    assert numbers(Store(tmp_path).records()) == numbers(Store(undisturbed).records())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_cluster_takes_no_more_workers_than_it_has_room_for(tmp_path, caplog):
    """An actor that Ray can't place waits for ever."""
    ray = pytest.importorskip("ray")
    from loram.study.cluster import RayEngine

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        engine = RayEngine(tmp_path, execute, workers=5, threads=1)
        assert engine.free == 3
        assert caplog.messages == ["the cluster has room for 3 of the 5 workers asked for"]
        assert RayEngine(tmp_path, execute, workers=5, threads=2).free == 1
        with pytest.raises(StudyError, match="at least 4 cores for a run, got 3 cores at most"):
            RayEngine(tmp_path, execute, workers=1, threads=4)
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_an_actor_on_a_busy_cluster_has_not_begun_until_another_is_dropped(made, tmp_path):
    ray = pytest.importorskip("ray")
    from loram.study.cluster import RayEngine

    first, second = (Task(made.job(made.blocks[0], "lora", 1e-2, seed)) for seed in (0, 1))
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        ours, theirs = (RayEngine(tmp_path, hang, workers=1, threads=1) for _ in range(2))
        ours.submit(first)
        until(lambda: ours.begun(first))
        theirs.submit(second)
        time.sleep(1)
        assert not theirs.begun(second)
        ours.drop(first)
        assert ours.free == 1
        until(lambda: theirs.begun(second))
        theirs.drop(second)
    finally:
        ray.shutdown()


def hang(job, folder):
    time.sleep(3600)


@forks
def test_a_study_killed_with_its_workers_ends_with_the_same_numbers(made, undisturbed, tmp_path):
    pid = os.fork()
    if not pid:
        os.setsid()
        study(
            made,
            tmp_path,
            lambda: LocalEngine(tmp_path, execute, workers=1, threads=1),
            watch=Unwatched(),
        )
        os._exit(0)
    until(lambda: len(records(tmp_path)) >= 1)
    time.sleep(random.random())
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(records(tmp_path)) < 6
    study(made, tmp_path, lambda: Inline(tmp_path, execute), watch=Unwatched())
    assert numbers(Store(tmp_path).records()) == numbers(Store(undisturbed).records())


def test_a_record_that_was_lost_comes_back_without_what_is_not_known(made, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    known = Store(tmp_path).records()[0]
    (Store(tmp_path).folder(known.key) / "record.json").unlink()
    study(made, tmp_path, lambda: Inline(tmp_path, execute), watch=Unwatched())
    again = Store(tmp_path).find(known.key)
    measured = ("init_seconds", "train_seconds")
    assert [getattr(again, x) for x in measured] == [getattr(known, x) for x in measured]
    assert again.wall_seconds is None
    assert numbers([again]) == numbers([known])


def test_a_run_that_diverges_is_a_record(made, tmp_path):
    settings = dict(made.spec.base) | {"steps": 2, "max_grad_norm": 0.0}
    diverging = spec(base=settings, lrs=None, recipe={"lrs": [1e30]}, methods=["lora"], seeds=[0])
    study(
        Plan(diverging, deciding()), tmp_path, lambda: Inline(tmp_path, execute), watch=Unwatched()
    )
    (found,) = Store(tmp_path).records()
    assert found.status == "diverged"
    assert found.validation == {}
    assert found.error is not None
    assert "diverged" in found.error
    (Store(tmp_path).folder(found.key) / "record.json").unlink()
    study(
        Plan(diverging, deciding()), tmp_path, lambda: Inline(tmp_path, execute), watch=Unwatched()
    )
    (again,) = Store(tmp_path).records()
    assert again == found.model_copy(update={"wall_seconds": None})


def test_a_worker_with_another_device_or_library_does_not_run_under_a_key_that_names_none_of_them(
    made, tmp_path
):
    one = made.spec.model_copy(update={"methods": made.spec.methods[:1], "seeds": (0,)})
    elsewhere = Plan(one, deciding() | {"device": "tpu", "torch": "0"})
    study(elsewhere, tmp_path, lambda: Inline(tmp_path, execute), watch=Unwatched())
    (found,) = Store(tmp_path).records()
    assert found.status == "failed"
    assert (
        "expected a worker with torch 0, device tpu, as where the study was started" in found.error
    )
