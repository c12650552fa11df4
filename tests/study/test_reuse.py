"""What a report publishes is read back whole, and a study goes on from it."""

import pytest
import synthetic
from study_fakes import Inline, Unwatched, numbers, plan, spec
from typer.testing import CliRunner

from loram.cli import app
from loram.study import compare as verb
from loram.study.errors import StudyError
from loram.study.report.flat import read_runs, write_runs
from loram.study.results import Run
from loram.study.reuse import reusable, reuse
from loram.study.runner import study
from loram.study.spec import dump
from loram.study.store import Store


def published(records, folder):
    folder.mkdir(exist_ok=True)
    write_runs([Run(each.method, each.task, each) for each in records], folder)
    return folder / "runs.parquet"


def test_runs_come_back_from_parquet_as_they_were(tmp_path):
    _, records = synthetic.make(
        change=lambda r: (
            r.model_copy(update={"status": "failed", "error": "no"}) if r.seed == 2 else r
        )
    )
    records.append(records[0].model_copy(update={"test": {"other": 0.1 + 0.2}, "curve": ()}))
    assert {each.status for each in records} == {"done", "diverged", "failed"}
    assert read_runs(published(records, tmp_path)) == records


@pytest.mark.parametrize("of", ["folder", "report"])
def test_a_study_does_what_is_not_done_elsewhere(of, tmp_path):
    first = tmp_path / "first"
    study(plan(methods=["lora"]), first, lambda: Inline(first), watch=Unwatched())
    theirs = Store(first).records()
    source = first if of == "folder" else published(theirs, tmp_path / "report")
    second = tmp_path / "second"
    assert reuse(reusable([source]), Store(second)) == len(theirs) == 4
    assert reuse(reusable([source]), Store(second)) == 0
    engine = Inline(second)
    study(plan(), second, lambda: engine, watch=Unwatched())
    assert {job.key for job in engine.submitted}.isdisjoint(each.key for each in theirs)
    alone = tmp_path / "alone"
    study(plan(), alone, lambda: Inline(alone), watch=Unwatched())
    assert numbers(Store(second).records()) == numbers(Store(alone).records())


def test_a_failed_run_is_not_taken_over(tmp_path):
    _, records = synthetic.make(methods=["lora"], tasks=["glue/rte"])
    failed = [each.model_copy(update={"status": "failed", "error": "no"}) for each in records]
    assert reusable([published(failed, tmp_path)]) == []


def test_a_result_takes_the_place_of_a_failure(tmp_path):
    _, records = synthetic.make(methods=["lora"], tasks=["glue/rte"])
    done = next(each for each in records if each.status == "done")
    store = Store(tmp_path)
    store.write(done.model_copy(update={"status": "failed", "error": "no"}))
    assert reuse([done], store) == 1
    assert store.find(done.key) == done
    assert reuse([done.model_copy(update={"wall_seconds": 1e9})], store) == 0


def test_what_is_no_record_of_runs_is_refused_before_anything_is_written(tmp_path):
    text = tmp_path / "runs.parquet"
    text.write_text("key,model\n")
    with pytest.raises(StudyError, match=r"expected a runs\.parquet .* got .*runs\.parquet"):
        reusable([text])
    with pytest.raises(StudyError, match=r"folder or the runs\.parquet"):
        reusable([tmp_path / "absent"])
    import polars

    polars.DataFrame({"key": ["x"], "lr": [1.0]}).write_parquet(text)
    with pytest.raises(StudyError, match=r"expected a runs\.parquet"):
        reusable([text])
    whole = published(synthetic.make(methods=["lora"])[1], tmp_path).read_bytes()
    text.write_bytes(whole[: len(whole) // 2])
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(dump(spec()))
    words = ["compare", str(file), "--out", str(out), "--reuse", str(text)]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, StudyError)
    assert not out.exists()


def test_the_verb_counts_them(tmp_path, monkeypatch):
    first, out = tmp_path / "first", tmp_path / "out"
    study(plan(), first, lambda: Inline(first), watch=Unwatched())
    file = tmp_path / "study.yaml"
    file.write_text(dump(spec()))
    monkeypatch.setattr(verb, "deciding", lambda: plan().versions)
    monkeypatch.setitem(verb.ENGINES, "local", lambda out, spec: Inline(out))
    words = ["compare", str(file), "--out", str(out), "--reuse", str(first)]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "10 of them done" in dry.output
    assert not out.exists()
    assert "10 runs taken over" in CliRunner().invoke(app, words).output
    assert numbers(Store(out).records()) == numbers(Store(first).records())
