"""A finished run asked again, on the command line too, and with the real encoders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from llm_tiny import save_interactions, save_model, tiny
from typer.testing import CliRunner

from loram.recommend import RecommendError
from loram.recommend.llm.asking import evaluate, score
from loram.recommend.llm.cli import add_to
from loram.recommend.llm.run import run
from loram.recommend.llm.summary import table_of

app = typer.Typer()
add_to(app)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_model(folder / "model"), save_interactions(folder / "met.csv")


def small_encoder(name: str) -> list[str]:
    widths = {"mf": "width: 6", "sasrec": "width: 6, length: 6", "macdae": "width: 8, heads: 2"}
    extra = ", training: {epochs: 1}"
    return [f"encoder={{name: {name}, options: {{{widths[name]}{extra}}}}}"]


@pytest.fixture(scope="module")
def runs(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs with the encoders that their configurations name."""
    folder = tmp_path_factory.mktemp("runs")
    for name, encoder in (("collm-mf", "mf"), ("ilora", "sasrec"), ("macdae", "macdae")):
        run(tiny(f"{name}-small", inputs, *small_encoder(encoder)), folder / name)
    return {each.name: each for each in folder.iterdir()}


@pytest.mark.parametrize("name", ["collm-mf", "ilora", "macdae"])
def test_a_reloaded_run_judges_as_it_did(name: str, runs: dict[str, Path]) -> None:
    results = json.loads((runs[name] / "results.json").read_text())
    again = evaluate(runs[name])
    assert again.keys() == results["metrics"].keys()
    for variant, metrics in again.items():
        for metric, values in metrics.items():
            assert values == pytest.approx(results["metrics"][variant][metric], abs=1e-5)


def test_rows_are_scored_as_the_test_was(runs: dict[str, Path], tmp_path: Path) -> None:
    """A test case, written as a row, gets the score that the run gave it."""
    from loram.recommend.llm.data import load
    from loram.recommend.llm.settings import LLMSettings

    out = runs["collm-mf"]
    settings = LLMSettings.model_validate(json.loads((out / "settings.json").read_text()))
    asked = load(settings.data, seed=settings.seed)
    rows = [
        {
            "user": asked.data.users[case.user],
            "history": [asked.data.items[item] for item in case.history],
            "item": asked.data.items[case.target],
        }
        for case in asked.test.cases
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    for got, line in zip(score(out, file), lines, strict=True):
        assert got["score"] == pytest.approx(next(iter(line["scores"].values())), abs=1e-5)


@pytest.mark.parametrize("name", ["collm-mf", "ilora", "macdae"])
def test_unknown_users_and_items_are_a_cold_start(
    name: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    asked = {"item": "new"} if name != "ilora" else {"candidates": ["new", "i1", "i2"]}
    rows = [
        {"user": "nobody", "history": [], **asked},
        {"history": ["old", "i3"], "titles": {"new": "Up", "old": "Alien"}, **asked},
        {"user": "u1", "history": ["i3"], "liked": [False], **asked},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = score(runs[name], file)
    values = [each.get("score", each.get("scores")) for each in found]
    assert values[0] != values[1] != values[2]
    for value in values:
        assert (len(value) == 3) if name == "ilora" else (0 < value < 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has none"),
        ("{", "expected a JSON object a line"),
        ("[]", "row 1: expected an object with history, item, got list"),
        ('{"history": []}', r"got \['history'\]"),
        ('{"history": ["i1"], "liked": [], "item": "i1"}', "a like or dislike for each"),
        ('{"history": "i1 i2", "item": "i1"}', "row 1: expected a list as history, got 'i1 i2'"),
        ('{"history": [], "item": "i1", "context": []}', "expected an object as context"),
    ],
)
def test_wrong_rows_are_an_error(
    text: str, message: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(RecommendError, match=message):
        score(runs["collm-mf"], file)


def test_a_run_that_is_not_finished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecommendError, match="expected a file of a run"):
        evaluate(tmp_path)


def test_the_commands(runs: dict[str, Path], inputs: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model, data = inputs
    changes: list[str] = []
    for change in (
        *(f"model={model}", f"data.source={data}", "data.sizes=[12, 12, 12]", "data.history=4"),
        *("data.shots=4", "data.valid=12", "dtype=float32", "resamples=20", "judge_every=1"),
        'stages=[{"max_steps": 2, "patience": 5, "epochs": 2}]',
    ):
        changes += ["--set", change]
    out = tmp_path / "run"
    done = CliRunner().invoke(app, ["train", "tallrec-small", "--out", str(out), *changes])
    assert done.exit_code == 0, done.output
    assert done.output.index("floor") < done.output.index("popularity") < done.output.index("LLM")
    for name in ("learning_curve", "by_history"):
        for end in ("png", "svg", "csv"):
            assert (out / f"{name}.{end}").stat().st_size > 0
    again = CliRunner().invoke(app, ["reevaluate", str(out)])
    assert again.exit_code == 0, again.output
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"history": ["i1"], "item": "i2"}\n')
    scored = CliRunner().invoke(
        app, ["score", str(out), str(rows), "--out", str(tmp_path / "scored.jsonl")]
    )
    assert scored.exit_code == 0, scored.output
    assert 0 < json.loads((tmp_path / "scored.jsonl").read_text())["score"] < 1


def test_the_table_says_what_a_row_lacks() -> None:
    results: dict[str, Any] = {
        "baselines": {"popularity": {"hr@1": [0.1, 0.0, 0.2], "ndcg@5": [0.2, 0.1, 0.3]}},
        "metrics": {"X": {"hr@1": [0.3, 0.2, 0.4], "ndcg@5": [0.4, 0.3, 0.5]}},
        "published": {"7B": {"hr@1": 0.44}},
        "written": {"valid_ratio": 0.5, "hr@1": [0.25, 0.1, 0.4]},
    }
    headings, rows = table_of(results)
    assert headings == ["", "method", "hr@1", "ndcg@5"]
    assert rows == [
        ["floor", "popularity", "0.100 [0.000, 0.200]", "0.200 [0.100, 0.300]"],
        ["LLM", "X", "0.300 [0.200, 0.400]", "0.400 [0.300, 0.500]"],
        ["LLM", "written answers, ValidRatio 0.500", "0.250 [0.100, 0.400]", "-"],
        ["published", "7B", "0.440", "-"],
    ]


def test_rows_read_as_much_history_as_the_run(runs: dict[str, Path], tmp_path: Path) -> None:
    """Four items, and of a run on likes alone only the liked."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {"user": "u1", "history": ["i9", "i8", "i1", "i2", "i3", "i4"], "item": "i5"},
        {"user": "u1", "history": ["i1", "i2", "i3", "i4"], "item": "i5"},
        {
            "user": "u1",
            "history": ["i1", "i7", "i2", "i3", "i4"],
            "liked": [True, False, True, True, True],
            "item": "i5",
        },
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [row["score"] for row in score(runs["collm-mf"], file)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[2] == pytest.approx(scores[1], abs=1e-6)


def test_other_data_than_the_run_was_trained_on_is_an_error(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """Codes would stand for other items, and nothing would say so."""
    run = tmp_path / "run"
    shutil.copytree(runs["collm-mf"], run)
    lines = Path(json.loads((run / "settings.json").read_text())["data"]["source"]).read_text()
    first, *rest = lines.splitlines()
    other = tmp_path / "met.csv"
    other.write_text("\n".join([first, *reversed(rest)]))
    changed = json.loads((run / "settings.json").read_text())
    changed["data"]["source"] = str(other)
    (run / "settings.json").write_text(json.dumps(changed))
    file = tmp_path / "rows.jsonl"
    file.write_text('{"history": ["i1"], "item": "i2"}')
    with pytest.raises(RecommendError, match="other users or items, or has them in another order"):
        score(run, file)
