"""Every format gives the same interactions; what can't be read is told."""

from pathlib import Path

import numpy as np
import pytest

from loram.recommend import Columns, RecommendError, read
from loram.recommend._tables import atomic_folder
from loram.recommend.interactions import UNKNOWN, Interactions, encode

ROWS = [("u1", "i1", 5, 30), ("u1", "i2", 1, 10), ("u2", "i1", 4, 20), ("u2", "i3", 2, 5)]
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"


def lines(separator: str, header: str) -> str:
    return "\n".join([header, *(separator.join(map(str, row)) for row in ROWS)]) + "\n"


@pytest.fixture
def atomic(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "tiny.inter").write_text(lines("\t", HEADER))
    (folder / "tiny.item").write_text(
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\ni1\tA "B" C\tDrama\ni2\t\tWar\n'
        "i9\tNobody met it\tWar\n"
    )
    (folder / "tiny.user").write_text("user_id:token\tage:token\nu2\t30\n")
    return folder


def same(one: Interactions, other: Interactions) -> None:
    assert one.users == other.users
    assert one.items == other.items
    for name in ("user", "item", "rating", "time"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_atomic_files_bring_titles_and_features(atomic: Path) -> None:
    data = read(atomic)
    assert data.users == ("u1", "u2")
    assert data.item.tolist() == [0, 1, 0, 2]
    assert [data.title(i) for i in (0, 1, 2, UNKNOWN)] == [
        *('A "B" C', "item i2", "item i3", "an unknown item")
    ]
    assert data.user_features["age"].codes.tolist() == [UNKNOWN, 0]
    assert data.item_features["class"].vocabulary == ("Drama", "War")
    assert data.liked().labels().tolist() == [1, 0, 1, 0]


def test_all_formats_say_the_same(atomic: Path, tmp_path: Path) -> None:
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    expected = read(atomic)
    columns = {"user": "who", "item": "what", "rating": "stars", "time": "when"}
    names = list(columns.values())
    (tmp_path / "a.csv").write_text(lines(",", ",".join(names)))
    (tmp_path / "a.tsv").write_text(lines("\t", "\t".join(names)))
    frame = polars.DataFrame(ROWS, schema=names, orient="row")
    frame.write_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "a.csv", tmp_path / "a.tsv", tmp_path / "a.parquet", frame):
        same(read(source, columns), expected)
    same(read(pandas.DataFrame(ROWS, columns=names), Columns(**columns)), expected)


def test_collm_format(tmp_path: Path) -> None:
    file = tmp_path / "ml1m.csv"
    file.write_text(
        'uid,iid,title,label,timestamp,history\n1,10,Heat,1,100,"[7, 8]"\n1,7,Fargo,0,90,[]\n'
    )
    data = read(file)
    assert data.items == ("10", "7", "8")  # items that only a history names come last
    assert data.history is not None
    assert [h.tolist() for h in data.history] == [[1, 2], []]
    assert data.titles == ("Heat", "Fargo", None)
    assert data.labels().tolist() == [1, 0]


def test_context_and_duplicates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user,item,hour\na,x,1\na,x,1\na,x,\n")
    data = read(file, {"context": ["hour"]})
    assert "1 rows dropped" in caplog.text
    assert data.context["hour"].codes.tolist() == [0, UNKNOWN]
    assert len(read(file, {"context": ["hour"]}, keep_duplicates=True)) == 3


def test_rows_that_differ_in_their_history_are_kept() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"user": ["a"] * 4, "item": ["x"] * 4})
    frame["history"] = [["y"], ["z"], None, ["y"]]
    data = read(frame)
    assert data.history is not None
    assert [[data.items[i] for i in h] for h in data.history] == [["y"], ["z"], []]
    frame.at[1, "history"] = [None, "z"]
    with pytest.raises(RecommendError, match="ids in a history"):
        read(frame)


def test_a_column_of_users_and_of_items_is_two_features(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\na\tx\nb\ty\n")
    (tmp_path / "a.user").write_text("user_id:token\tcity:token\na\tRome\nb\tOslo\n")
    (tmp_path / "a.item").write_text("item_id:token\tcity:token\nx\tBonn\ny\tBern\n")
    data = read(tmp_path)
    assert data.user_features["city"].vocabulary == ("Rome", "Oslo")
    assert data.item_features["item_city"].vocabulary == ("Bonn", "Bern")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "file is empty"),
        ("user,item\n", {}, "at least one interaction"),
        ("user,item\na\n", {}, "line 2: expected 2 fields"),
        ("who,item\na,x\n", {}, "column of users"),
        ("user,item\na,x\n", {"rating": "stars"}, "'stars'"),
        ("user,item\n,x\n", {}, "row 1: expected the id of a user"),
        ("user,item,rating\na,x,good\n", {}, "finite number in 'rating', got 'good'"),
        ("user,item,rating\na,x,nan\n", {}, "finite number"),
        ("user,item\na,x\n", {"colour": "c"}, "colour"),
        ("user,item,history\na,x,[1\n", {}, "list of items"),
    ],
)
def test_bad_files_are_told(
    tmp_path: Path, text: str, columns: dict[str, str], message: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(RecommendError, match=message):
        read(file, columns)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "a.csv").write_bytes(b"user,item\n\xff\xfe,x\n")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    for name, message in {
        "a.pkl": "runs whatever",
        "a.txt": "expected one of",
        "a.csv": "UTF-8",
        "a.parquet": "whole Parquet",
        "none.csv": "existing file",
        "": "one .inter",
    }.items():
        with pytest.raises(RecommendError, match=message):
            read(tmp_path / name)


def test_labels_must_be_binary(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user,item,label\na,x,1\na,y,3\n")
    with pytest.raises(RecommendError, match="got 3 in row 2"):
        read(file).labels()
    file.write_text("user,item\na,x\n")
    for call, message in (
        (Interactions.labels, "has none"),
        (Interactions.liked, "ratings"),
        (Interactions.times, "times"),
    ):
        with pytest.raises(RecommendError, match=message):
            call(read(file))


def test_unknown_ids_have_the_unknown_code(atomic: Path) -> None:
    users, items = read(atomic).codes(users=["u2", "u9"], items=["i3", "?"])
    assert users.tolist() == [1, UNKNOWN]
    assert items.tolist() == [2, UNKNOWN]
    assert encode([None, "", float("nan"), 0]).codes.tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, 0]


def test_ml_100k_comes_from_the_wheel() -> None:
    if atomic_folder("ml-100k") is None:
        pytest.skip("the recbole wheel is not installed")
    data = read("ml-100k")
    assert (len(data), len(data.users), len(data.items)) == (100_000, 943, 1682)
    assert data.title(data.codes(items=["1"])[1][0]) == "Toy Story"
