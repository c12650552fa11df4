"""Reading examples: every shape of row, splits that never mix, and errors that name the line."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from loram.tasks import DataError, Example, load, wordmath
from loram.tasks.pairs import load_pairs
from loram.tasks.task import Request

PAIRS = [
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("input", "output"),
    ("problem", "solution"),
]


def write(file: Path, rows: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def numbered(start: int, stop: int) -> list[dict[str, str]]:
    return [{"question": f"q{i}", "answer": f"a{i}"} for i in range(start, stop)]


def examples(start: int, stop: int) -> set[Example]:
    return {Example(f"q{i}", f"a{i}") for i in range(start, stop)}


def read(source, **changes):
    return load(str(source), **({"train_size": None, "held_out_size": 1, "seed": 0} | changes))


@pytest.mark.parametrize(("question", "answer"), PAIRS)
def test_every_pair_of_fields_is_read(tmp_path, question, answer):
    rows = [{question: f"q{i}", answer: f"a{i}", "extra": i} for i in range(4)]
    data = read(write(tmp_path / "some.jsonl", rows))
    assert {*data.train, *data.held_out} == examples(0, 4)


@pytest.mark.parametrize(
    ("context", "question"), [("some text", "do it\n\nsome text"), ("", "do it"), (None, "do it")]
)
def test_an_instructions_input_belongs_to_the_question(tmp_path, context, question):
    row = {"instruction": "do it", "input": context, "output": "done"}
    data = read(write(tmp_path / "some.jsonl", [row, row | {"instruction": "other"}]))
    assert Example(question, "done") in [*data.train, *data.held_out]


@pytest.mark.parametrize(
    "text", ["Ünïcode “quotes” ∑", "line\nbreaks", "a\u2028b\u2029c", "a\x85b", "a\x0bb\x0cc"]
)
@pytest.mark.parametrize("ascii", [True, False])
def test_text_is_read_as_it_is(tmp_path, text, ascii):
    """JSON lines end at a line feed alone: other separators of Unicode may stand in a string."""
    row = json.dumps({"question": text, "answer": text}, ensure_ascii=ascii)
    other = '{"question": "?", "answer": "!"}'
    data = read(write(tmp_path / "some.jsonl", [row, "", "  ", other]))
    assert {*data.train, *data.held_out} == {Example(text, text), Example("?", "!")}


@pytest.mark.parametrize("name", ["test", "validation", "valid", "dev", "heldout", "eval"])
def test_a_folder_has_its_own_held_out_examples(tmp_path, name):
    write(tmp_path / "train.jsonl", numbered(0, 5))
    write(tmp_path / f"{name}.jsonl", numbered(5, 9))
    data = read(tmp_path, held_out_size=3)
    assert set(data.train) == examples(0, 5)
    assert set(data.held_out) < examples(5, 9)
    assert (len(data.held_out), data.name) == (3, str(tmp_path))


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_examples_of_one_file_are_parted_for_good(tmp_path, where, seed):
    file = write(tmp_path / "train.jsonl", numbered(0, 20))
    source = file if where == "file" else tmp_path
    data = read(source, held_out_size=6, seed=seed)
    assert {*data.train, *data.held_out} == examples(0, 20)
    assert (len(data.train), len(data.held_out)) == (14, 6)
    assert not {*data.train} & {*data.held_out}

    assert data == read(source, held_out_size=6, seed=seed)
    fewer = read(source, held_out_size=6, train_size=5, seed=seed)
    assert (fewer.train, fewer.held_out) == (data.train[:5], data.held_out)


def test_seeds_part_them_differently(tmp_path):
    file = write(tmp_path / "some.jsonl", numbered(0, 20))
    drawn = [tuple(read(file, held_out_size=6, seed=seed).held_out) for seed in range(4)]
    assert len(set(drawn)) == 4


def test_a_row_that_occurs_twice_is_not_on_both_sides(tmp_path):
    rows = [row for row in numbered(0, 10) for _ in range(2)]
    data = read(write(tmp_path / "some.jsonl", rows), held_out_size=5)
    assert not {*data.train} & {*data.held_out}


def test_a_question_with_several_answers_is_on_one_side_alone(tmp_path):
    """Of MetaMath's kind; validation is drawn from what is left to train on."""
    rows = [{"question": f"q{i}", "answer": f"a{i} {k}"} for i in range(30) for k in range(3)]
    file = write(tmp_path / "some.jsonl", rows)
    request = Request(source=str(file), validation_size=5, test_size=5, seed=0)
    splits = load_pairs(request)
    parts = (splits.train, splits.validation, splits.test)
    asked = [{each.question for each in part} for part in parts]
    assert all(asked)
    assert not asked[0] & (asked[1] | asked[2])
    assert not asked[1] & asked[2]


def test_wordmath_has_the_sizes_that_are_asked_for():
    data = read("wordmath", train_size=7, held_out_size=3, seed=2)
    made = wordmath.generate("train", 7, seed=2)
    assert data.train == [Example(p.question, p.answer) for p in made]
    assert data.held_out == [
        Example(p.question, p.answer) for p in wordmath.generate("test", 3, seed=2)
    ]
    assert len(read("wordmath").train) == 2000


def test_more_wordmath_than_can_be_written_is_an_error_of_the_data(monkeypatch):
    def generate(split, size, *, seed):
        raise ValueError(f"expected a size that the templates can fill, got {size}")

    monkeypatch.setattr(wordmath, "generate", generate)
    with pytest.raises(DataError, match="can fill"):
        read("wordmath")


# ---- errors --------------------------------------------------------------------------------------

GOOD = {"question": "q", "answer": "a"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question": ', "expected a JSON object"),
        ("[1, 2]", "question and answer.*got list"),
        ("3", "got int"),
        ("null", "got NoneType"),
        ({"Q": "q", "A": "a"}, r"prompt and completion.*got \['A', 'Q'\]"),
        ({"question": "q"}, r"got \['question'\]"),
        ({"question": "q", "answer": 3}, "expected text in 'question' and 'answer'"),
        ({"question": None, "answer": "a"}, "expected text"),
        ({"question": "q", "answer": " \n"}, "'answer' is empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    file = write(tmp_path / "some.jsonl", [GOOD, "", row, GOOD])
    with pytest.raises(DataError, match=rf"some\.jsonl, line 3: .*{message}"):
        read(file)


def test_what_holds_no_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"empty\.jsonl: .* has none"):
        read(write(tmp_path / "empty.jsonl", ["", " "]))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"expected train\.jsonl .*no \.jsonl file"):
        read(tmp_path / "folder")
    write(tmp_path / "folder" / "other.jsonl", [GOOD])
    with pytest.raises(DataError, match=r"expected train\.jsonl .*other"):
        read(tmp_path / "folder")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "some.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"some\.jsonl: expected a UTF-8 JSONL file"):
        read(tmp_path / "some.jsonl")


@pytest.mark.parametrize(
    ("sizes", "expected", "got"),
    [
        ({"held_out_size": 10}, "1 training and 10 held-out", "0 and 10"),
        ({"held_out_size": 11}, "1 training and 11 held-out", "0 and 10"),
        ({"train_size": 8, "held_out_size": 3}, "8 training and 3 held-out", "7 and 3"),
    ],
)
def test_too_few_rows_are_counted(tmp_path, sizes, expected, got):
    file = write(tmp_path / "some.jsonl", numbered(0, 10))
    with pytest.raises(DataError, match=rf"expected {expected} examples, got {got}.*--train-size"):
        read(file, **sizes)


# ---- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A package `datasets` whose `load_dataset` is this function."""

    def install(load_dataset) -> None:
        module = ModuleType("datasets")
        module.load_dataset = load_dataset  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


def test_a_name_is_not_looked_up_without_the_hub_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # import raises
    with pytest.raises(DataError, match=r"'no/such' is not an existing file .*loram\[hub\]"):
        read("no/such")


@pytest.mark.parametrize("held_out", ["test", "validation", None])
def test_a_data_set_of_the_hub_is_split_as_files_are(hub, tmp_path, held_out):
    asked = []
    splits = {"train": numbered(0, 8)} | ({held_out: numbered(8, 12)} if held_out else {})

    def load_dataset(name, config):
        asked.append((name, config))
        return splits

    hub(load_dataset)
    data = read("some/data", config="main", held_out_size=3)
    assert asked == [("some/data", "main")]
    for name, rows in splits.items():
        write(tmp_path / f"{name}.jsonl", rows)
    expected = read(tmp_path, held_out_size=3)
    assert (data.name, data.train, data.held_out) == (
        *("some/data", expected.train, expected.held_out),
    )


@pytest.mark.parametrize("error", [ValueError("Config name is missing.\nPick one"), RuntimeError()])
def test_an_error_of_the_hub_is_told_in_one_line(hub, error):
    def load_dataset(name, config):
        raise error

    hub(load_dataset)
    first = (str(error) or type(error).__name__).splitlines()[0]
    with pytest.raises(
        DataError, match=rf"no such data set \({first}\)\. .*--data-config"
    ) as caught:
        read("some/data")
    assert "\n" not in str(caught.value)


def test_bad_splits_and_rows_of_the_hub_are_named(hub):
    hub(lambda name, config: {"all": numbered(0, 3)})
    with pytest.raises(DataError, match=r"some/data: expected a train split, got \['all'\]"):
        read("some/data")
    hub(lambda name, config: {"train": [GOOD, SimpleNamespace()]})
    with pytest.raises(DataError, match=r"some/data, row 2: expected an object"):
        read("some/data")
