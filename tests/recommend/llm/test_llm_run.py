"""Runs: every configuration trains, a killed one ends the same, and what can't be used is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from llm_tiny import FakeEncoder, save_interactions, save_model, tiny
from safetensors.torch import load_file, save_file

from loram.recommend import RecommendError
from loram.recommend.encoders.fit import FitSettings
from loram.recommend.llm import encoders
from loram.recommend.llm.data import load
from loram.recommend.llm.run import run
from loram.recommend.llm.settings import published, read_yaml

SMALL = ("tallrec", "collm-mf", "collm-sasrec", "llara", "ilora", "macdae")
PUBLISHED = ("tallrec", "collm-mf", "collm-sasrec", "llara", "ilora")


class Killed(BaseException):
    """Not an Exception: nothing in the run may catch it."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_model(folder / "model"), save_interactions(folder / "met.csv")


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any) -> FakeEncoder:
        return FakeEncoder()

    fake = encoders.Kind(fit, lambda folder: FakeEncoder(), FitSettings())
    monkeypatch.setattr(encoders, "ENCODERS", dict.fromkeys(("mf", "sasrec", "macdae"), fake))


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def kill_at(step: int, stage: str = "training") -> Callable[[str, int | None], Any]:
    """Bars that die when so many steps of the stages of this name are done."""
    done = 0

    def bars(what: str, total: int | None) -> Callable[[int], None]:
        def tick(n: int) -> None:
            nonlocal done
            if what.startswith(stage):
                done += n
                if done >= step:
                    raise Killed

        return tick

    return bars


@pytest.mark.parametrize("name", SMALL)
def test_every_configuration_trains(name: str, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = tiny(f"{name}-small", inputs)
    results = run(settings, tmp_path / "run")
    losses = lines_of(tmp_path / "run/losses.jsonl")
    assert len(losses) == 2 * len(settings.stages)
    kinds = len(results["metrics"])
    assert kinds == (4 if settings.is_hybrid else 1)  # itself, text, shuffled, zeroed
    main = "ndcg@5" if settings.data.candidates else "auc"
    for found in [*results["metrics"].values(), *results["baselines"].values()]:
        value, low, high = found[main]
        assert 0 <= low <= value <= high <= 1
    lines = lines_of(tmp_path / "run/scores.jsonl")
    assert len(lines) == results["examples"]["test"]
    assert (tmp_path / "run/adapter/adapter_model.safetensors").exists()
    assert not (tmp_path / "run/checkpoint.safetensors").exists()
    if settings.data.candidates:
        assert results["written"]["denominator"] == "all answers"
        assert len(results["written"]["answers"]) == len(lines)
    again = run(settings, tmp_path / "run", bars=kill_at(0, ""))  # is read, not run
    assert again == json.loads((tmp_path / "run/results.json").read_text())


def test_the_floors_come_first_and_do_not_depend_on_the_shots(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    found = [
        run(tiny("tallrec-small", inputs, f"data.shots={n}"), tmp_path / str(n))["baselines"]
        for n in (4, 8)
    ]
    assert found[0] == found[1]
    assert {"popularity", "item mean", "like share", "like share + item"} <= found[0].keys()


@pytest.mark.parametrize(("name", "at"), [("collm-mf-small", 3), ("ilora-small", 1)])
def test_a_killed_run_ends_with_the_same_numbers(
    name: str, at: int, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = tiny(name, inputs, "adapter.dropout=0.2", "data.shots=8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(settings, whole)
    with pytest.raises(Killed):
        run(settings, killed, bars=kill_at(at))
    with pytest.raises(Killed):
        run(settings, killed, bars=kill_at(1, settings.name))  # after training, while it is judged
    run(settings, killed)
    for file in ("losses.jsonl", "judged.jsonl", "scores.jsonl"):
        assert (killed / file).read_text() == (whole / file).read_text(), file
    mine, theirs = (
        {**json.loads((out / "results.json").read_text()), "train_seconds": 0}
        for out in (killed, whole)
    )
    assert mine == theirs
    for file in ("adapter/adapter_model.safetensors", "parts.safetensors"):
        one, other = load_file(killed / file), load_file(whole / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_the_second_stage_of_collm_leaves_the_adapter_alone(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = tiny("collm-mf-small", inputs)
    first = settings.model_copy(update={"stages": settings.stages[:1], "controls": ()})
    run(settings, tmp_path / "both")
    run(first, tmp_path / "first")
    both, one = (
        load_file(tmp_path / name / "adapter/adapter_model.safetensors")
        for name in ("both", "first")
    )
    assert all(torch.equal(both[k], one[k]) for k in one)
    lines = lines_of(tmp_path / "both/losses.jsonl")
    assert [line["hybrid"] for line in lines] == [False, False, True, True]


def test_controls_tell_apart_what_the_vectors_do(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """On text prompts the controls change nothing; under gates alone they do."""
    run(tiny("collm-mf-small", inputs), tmp_path / "slots")
    scores = [line["scores"] for line in lines_of(tmp_path / "slots/scores.jsonl")]
    by_name = {name: [line[name] for line in scores] for name in scores[0]}
    assert len({json.dumps(each) for each in by_name.values()}) == 4


def test_trained_vectors_are_those_that_are_saved(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    """CoLLM's ablation: the encoder's vectors trained in step two."""
    stage = '{"trains": ["projector", "encoder"], "prompts": "hybrid", "max_steps": 2}'
    run(tiny("collm-mf-small", inputs, f"stages=[{stage}]"), tmp_path / "run")
    before, after = (
        load_file(tmp_path / "run" / name) for name in ("tables.safetensors", "parts.safetensors")
    )
    for kind in ("user", "item"):
        assert not torch.equal(before[kind], after[f"vectors.tables.{kind}"])


@pytest.mark.parametrize("method", ["lora", "lora+", "loram", "pissa", "lora-ga", "full"])
def test_any_method_of_the_table_goes(
    method: str, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = tiny("tallrec-small", inputs, f"adapter.method={method}", "data.shots=4")
    results = run(settings, tmp_path / "run")
    assert results["metrics"].keys() == {f"TALLRec, {method}"}


def test_early_stopping_keeps_the_best(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    stage = '{"trains": ["adapter"], "epochs": 20, "patience": 2}'
    settings = tiny(
        "tallrec-small", inputs, f"stages=[{stage}]", "lr=0.1", "judge_every=1", "schedule=constant"
    )
    run(settings, tmp_path / "run")
    judged = [line["valid"] for line in lines_of(tmp_path / "run/judged.jsonl")]
    assert len(judged) < 40
    best = judged.index(max(judged))
    assert len(judged) == best + 1 + 2


# ---- data ----------------------------------------------------------------------------------------


def test_candidates_are_the_same_for_every_seed_and_never_met(inputs: tuple[Path, Path]) -> None:
    settings = tiny("llara-small", inputs).data.model_copy(update={"shots": None})
    one, other = load(settings, seed=0), load(settings, seed=1)
    assert one.all == other.all
    data = one.data
    for case in one.all:
        met = set(data.item[data.user == case.user].tolist())
        assert case.target in case.candidates
        assert len(set(case.candidates)) == 4
        assert not (set(case.candidates) - {case.target}) & met


def test_rows_of_cases_count_through_the_parts(inputs: tuple[Path, Path]) -> None:
    asked = load(tiny("tallrec-small", inputs).data, seed=0)
    assert [case.row for case in asked.all] == list(range(len(asked.all)))


def test_sequences_are_one_for_each_user_cut_in_time(inputs: tuple[Path, Path]) -> None:
    settings = tiny("llara-small", inputs, "data.shots=null", "data.valid=null", "data.test=null")
    asked = load(settings.data, seed=0)
    assert sorted(case.user for case in asked.all) == list(range(12))
    ends = [asked.data.times()[part.samples.row] for part in (asked.train, asked.valid, asked.test)]
    assert ends[0].max() <= ends[1].min() <= ends[1].max() <= ends[2].min()
    held = {int(row) for part in (asked.valid, asked.test) for row in part.samples.row}
    assert not held & set(asked.learnt.tolist())


def test_liked_only_reaches_back_for_liked_items(inputs: tuple[Path, Path]) -> None:
    settings = tiny("collm-mf-small", inputs, "data.shots=null").data
    asked = load(settings, seed=0)
    assert all(all(case.liked) for case in asked.all)
    assert max(len(case.history) for case in asked.all) == settings.history
    assert any(not case.history for case in asked.all)  # an empty history is asked too


# ---- one's own vectors ---------------------------------------------------------------------------


def own_vectors(folder: Path, ids: Any) -> Path:
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    rows = {kind: torch.randn(len(names), 5, generator=draw) for kind, names in ids.items()}
    save_file(rows, folder / "vectors.safetensors")
    (folder / "ids.json").write_text(json.dumps(ids))
    return folder


def test_own_vectors_by_id_and_zeros_for_what_they_lack(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    ids = {"user": [f"u{k}" for k in range(3)], "item": [f"i{k}" for k in (5, 2)]}
    folder = own_vectors(tmp_path / "mine", ids)
    encoder = f'encoder={{"name": "file", "options": {{"path": "{folder}"}}}}'
    run(tiny("collm-mf-small", inputs, encoder), tmp_path / "run")
    tables, rows = (
        load_file(tmp_path / "run/tables.safetensors"),
        load_file(folder / "vectors.safetensors"),
    )
    data = load(tiny("collm-mf-small", inputs).data, seed=0).data
    assert torch.equal(tables["item"][data.items.index("i2")], rows["item"][1])
    assert torch.equal(tables["user"][data.users.index("u0")], rows["user"][0])
    assert not tables["item"][data.items.index("i3")].any()


@pytest.mark.parametrize("ids", [{"item": ["i1"], "thing": ["x"]}, {"user": [1]}])
def test_own_vectors_that_do_not_fit_are_an_error(
    ids: Any, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = own_vectors(tmp_path / "mine", ids)
    encoder = f'encoder={{"name": "file", "options": {{"path": "{folder}"}}}}'
    with pytest.raises(RecommendError, match=r"expected user and item|asks for item"):
        run(tiny("collm-mf-small", inputs, encoder), tmp_path / "run")
    (folder / "ids.json").write_text("{")
    with pytest.raises(RecommendError, match=r"and ids\.json with a list"):
        run(tiny("collm-mf-small", inputs, encoder), tmp_path / "other")


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PUBLISHED, *(f"{name}-small" for name in SMALL)])
def test_packaged_settings_are_whole(name: str) -> None:
    settings = read_yaml(name)
    small = name.endswith("-small")
    assert (settings.model == "smollm2") is small
    assert settings.adapter.method == ("loram" if small else "lora")  # parity with the papers
    assert settings.extension is name.startswith("macdae")
    assert published(name) is not None


def test_published_numbers() -> None:
    ilora, tallrec = read_yaml("ilora").adapter, read_yaml("tallrec")
    assert (ilora.rank, ilora.experts, ilora.alpha, ilora.router_lr) == (8, 4, 32, 0.3)
    assert tallrec.stages[0].patience == 10
    collm = read_yaml("collm-mf")
    assert [stage.trains for stage in collm.stages] == [("adapter",), ("projector",)]
    assert (collm.lr, collm.weight_decay, collm.batch_size) == (1e-3, 1e-3, 16)
    assert read_yaml("llara").stages[0].prompts == "curriculum"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.shotz=3"], "data.shotz: Extra inputs"),
        (["adapter.method=lorra"], "Did you mean"),
        (["prompt.text='{likes}'"], "unknown field 'likes'"),
        (["prompt.text=x {user_slot}"], "text prompts have no slots"),
        (["encoder.name=none"], "slots and gates need vectors"),
        (["adapter.experts=4"], "a router belongs to an adapter of several experts"),
        (["adapter.experts=3"], "rank that 3 experts divide"),
        (["adapter.experts=2", "adapter.method=pissa"], "changes the base"),
        (["prompt.hybrid=x"], "a stage has prompts with slots, and the prompt has none"),
        (["data.candidates=1"], "expected 0, or 2 and more"),
        (["data.candidates=5"], "loss yes is of a yes or no"),
        (["written=true"], "set data.candidates"),
        (["lr=-1", "batch_size=0"], r"lr: .*\n.*batch_size|batch_size: .*\n.*lr"),
        (["lr"], "expected key=value"),
        (["lr.x=1"], "expected key=value"),
        (["lr=[1"], "expected a value as in YAML"),
    ],
)
def test_wrong_settings_are_an_error(changes: list[str], message: str) -> None:
    with pytest.raises(RecommendError, match=message):
        read_yaml("collm-mf", changes)


def test_files_that_are_no_settings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecommendError, match="expected a path, or one of collm-mf"):
        read_yaml("no-such")
    for text, message in (("[1", "expected YAML"), ("- 1", "expected settings by name")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(RecommendError, match=message):
            read_yaml(tmp_path / "x.yaml")


# ---- broken folders ------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("mine")
    with pytest.raises(RecommendError, match="exists and is not a run"):
        run(tiny("tallrec-small", inputs), tmp_path / "other")
    with pytest.raises(Killed):
        run(tiny("tallrec-small", inputs), tmp_path / "run", bars=kill_at(1))
    with pytest.raises(RecommendError, match=r"other settings \(lr\)"):
        run(tiny("tallrec-small", inputs, "lr=3"), tmp_path / "run")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("checkpoint.safetensors", "is damaged"),
        ("tables.safetensors", "is damaged"),
        ("settings.json", "can't read"),
    ],
)
def test_truncated_files_are_an_error(
    file: str, message: str, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = tiny("collm-mf-small", inputs)
    with pytest.raises(Killed):
        run(settings, tmp_path, bars=kill_at(3))
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecommendError, match=message):
        run(settings, tmp_path)


def test_a_run_that_diverges_says_so(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = tiny("tallrec-small", inputs, "lr=1e30", "max_grad_norm=0", "schedule=constant")
    with pytest.raises(RecommendError, match="training diverged"):
        run(settings, tmp_path / "run")


def test_a_validation_of_one_class_is_an_error(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RecommendError, match="one class"):
        run(tiny("tallrec-small", inputs, "data.valid=1"), tmp_path / "run")
