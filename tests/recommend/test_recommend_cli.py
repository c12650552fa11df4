"""`loram recommend`: floors first, files that come split, mistakes without a traceback."""

from pathlib import Path

import numpy as np
import pytest
from made import made
from typer.testing import CliRunner

from loram.cli import app
from loram.recommend import cli
from loram.recommend.cli import columns_of
from loram.recommend.errors import LeakError, RecommendError
from loram.recommend.evaluating import MODELS, prepare_data
from loram.recommend.reading import Columns

COLUMNS = Columns(user="u", item="i", context=("daypart",))
runner = CliRunner(env={"COLUMNS": "160"})


@pytest.fixture(autouse=True)
def _width_of_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console made while another test had COLUMNS set keeps that width."""
    monkeypatch.setattr(cli.console, "_width", None)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = made(users=20, items=30, each=15)
    file = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    parts = [("morning", "evening")[c] for c in data.context["daypart"].codes]
    rows = zip(data.user, data.item, data.rating, data.time, parts, strict=True)  # pyright: ignore
    file.write_text(
        "u,i,rating,time,daypart\n" + "".join(f"{u},{i},{r},{t},{p}\n" for u, i, r, t, p in rows)
    )
    return file


def options(*more: str) -> list[str]:
    return [*more, "--column", "user=u", "--column", "item=i", "--column", "context=daypart"]


def test_floors_come_first(ratings: Path) -> None:
    found = runner.invoke(app, ["recommend", *options("floors", str(ratings))])
    assert found.exit_code == 0, found.output
    heads = [line.split("  ")[0].strip() for line in found.output.splitlines()[1:]]
    assert heads[:2] == ["floor: popularity", "floor: user mean"]
    judged = runner.invoke(
        app, ["recommend", *options("evaluate", str(ratings), "--model", "mf"), "--resamples", "20"]
    )
    assert judged.exit_code == 0, judged.output
    names = [line.split("  ")[0].strip() for line in judged.output.splitlines()[1:]]
    assert names[-1] == "mf"
    assert all(name.startswith("floor: ") for name in names[:-1])


def test_nothing_is_cut_in_a_narrow_terminal(ratings: Path) -> None:
    narrow = CliRunner(env={"COLUMNS": "80"})
    found = narrow.invoke(app, ["recommend", *options("floors", str(ratings), "--resamples", "20")])
    assert "floor: like share + item" in found.output
    assert "…" not in found.output


def test_prepare_says_what_is_there(ratings: Path) -> None:
    found = runner.invoke(app, ["recommend", *options("prepare", str(ratings))])
    assert found.exit_code == 0, found.output
    assert "20 users, 30 items, no titles; context: daypart; no leak found" in found.output


@pytest.mark.parametrize("name", MODELS)
def test_every_model_scores_the_test(ratings: Path, name: str) -> None:
    prepared = prepare_data(
        str(ratings), columns=columns_of(["user=u", "item=i", "context=daypart"])
    )
    score = MODELS[name](prepared, 0)
    assert score.shape == (len(prepared.test),)
    assert np.isfinite(score).all()


def test_files_of_a_split_share_their_vocabularies(tmp_path: Path) -> None:
    """CoLLM's format: uid, iid, title, label, timestamp, history."""
    rng = np.random.default_rng(0)
    for name, users in (("train", 12), ("valid", 6), ("test", 14)):
        lines = ["uid,iid,title,label,timestamp,history"]
        for user in range(users):
            for item in rng.choice(20, 8, replace=False):
                likes = " ".join(map(str, rng.choice(20, 3)))
                label = int(user % 2 == item % 2)
                lines.append(f"{user},{item},Film {item},{label},{len(lines)},{likes}")
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    files = {n: tmp_path / f"{n}.csv" for n in ("train", "valid", "test")}
    made = prepare_data(str(files["train"]), valid=files["valid"], test=files["test"])
    assert [len(p) for p in (made.train, made.valid, made.test)] == [96, 48, 112]
    assert len(made.data.users) == 14
    assert made.data.title(made.test.item[0]).startswith("Film ")
    assert (made.test.history >= 0).sum(1).tolist() == [3] * 112
    found = runner.invoke(
        app,
        [
            *("recommend", "evaluate", str(files["train"]), "--valid", str(files["valid"])),
            *("--test", str(files["test"]), "--model", "mf", "--resamples", "20"),
        ],
    )
    assert found.exit_code == 0, found.output
    assert "like share + item" in found.output
    without = prepare_data(str(files["train"]), test=files["test"])
    assert [len(r) for r in without.rows] == [87, 9, 112]
    with pytest.raises(RecommendError, match="--test"):
        prepare_data(str(files["train"]), valid=files["valid"])


def test_implicit_rows_get_negatives(tmp_path: Path) -> None:
    data = made(each=10)
    file = tmp_path / "uses.csv"
    pairs = zip(data.user, data.item, data.times(), strict=True)
    file.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in pairs))
    prepared = prepare_data(str(file), negatives=3)
    assert prepared.test.label.mean() == 0.25
    n = len(prepared.test) // 4
    assert (prepared.test.history >= 0).any()
    np.testing.assert_array_equal(
        prepared.test.history[n:], np.repeat(prepared.test.history[:n], 3, axis=0)
    )
    arguments = ["recommend", "evaluate", str(file), "--model", "sasrec", "--resamples", "20"]
    found = runner.invoke(app, [*arguments, "--split", "leave-one-out"])
    assert found.exit_code == 0, found.output


def test_files_that_overlap_are_a_leak(ratings: Path) -> None:
    with pytest.raises(LeakError, match="600 rows stand in two parts: train and valid"):
        prepare_data(str(ratings), columns=COLUMNS, valid=ratings, test=ratings)


def test_nothing_learnt_from_has_seen_the_test(ratings: Path) -> None:
    """Rows cut at random lie between each other in time."""
    made = prepare_data(str(ratings), columns=COLUMNS, split="random")
    for part, hidden in ((made.train, (*made.rows[1:],)), (made.valid, (made.rows.test,))):
        seen = part.history_row[part.history_row >= 0]
        assert len(seen)
        assert not np.isin(seen, np.concatenate(hidden)).any()


def test_histories_that_all_hold_their_target_are_a_leak(tmp_path: Path) -> None:
    rows = [f"{u},{i},{(u + i) % 2},{u + i} {i}" for u in range(6) for i in range(9)]
    files = [tmp_path / f"{n}.csv" for n in range(3)]
    for file, part in zip(files, (rows[:30], rows[30:42], rows[42:]), strict=True):
        file.write_text("user,item,label,history\n" + "\n".join(part))
    with pytest.raises(LeakError, match="holds its own target"):
        prepare_data(str(files[0]), valid=files[1], test=files[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["floors", "nowhere.csv"], "nowhere.csv: expected an existing file"),
        (["floors", "{}", "--column", "user"], "expected WHAT=NAME"),
        (["floors", "{}"], "expected a column of users"),
        (["floors", "{}", "--split", "odd"], "--split odd: expected one of tallrec"),
        (["evaluate", "{}", "--model", "oracle"], "--model oracle: expected one of mf"),
    ],
)
def test_mistakes_are_told(ratings: Path, arguments: list[str], message: str) -> None:
    found = runner.invoke(app, ["recommend", *(a.format(ratings) for a in arguments)])
    assert isinstance(found.exception, RecommendError)
    assert message in str(found.exception)
