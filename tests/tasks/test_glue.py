"""GLUE from files and from the hub: splits that are disjoint, and the same for every seed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from loram.tasks import DataError
from loram.tasks.glue import SOURCE
from loram.tasks.table import TASKS, UnknownTaskError, named
from loram.tasks.task import Labelled, Request

PAIRS = {
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
}
NAMES = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")


def row(name: str, i: int) -> dict[str, object]:
    label = i / 2 if name == "stsb" else i % 2
    if name not in PAIRS:
        return {"sentence": f"text {i}", "label": label, "idx": i}
    one, other = PAIRS[name]
    key = "score" if name == "stsb" else "label"
    return {one: f"one {i}", other: f"other {i}", key: label, "idx": i}


def rows(name: str, first: int, last: int) -> list[dict[str, object]]:
    return [row(name, i) for i in range(first, last)]


def write(file: Path, lines: list[object]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def expected(name: str, first: int, last: int) -> set[Labelled]:
    return {
        Labelled(f"one {i}", f"other {i}", i / 2 if name == "stsb" else i % 2)
        if name in PAIRS
        else Labelled(f"text {i}", None, i % 2)
        for i in range(first, last)
    }


def load(name: str, source: object, **changes):
    return TASKS[f"glue/{name}"].load(Request(source=str(source), **changes))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("files", [f"{'{}'}_train {'{}'}_dev", "train dev", "train validation"])
def test_a_folder_has_train_and_what_is_reported(tmp_path, name, files):
    train, dev = (tmp_path / f"{file.format(name)}.jsonl" for file in files.split())
    write(train, rows(name, 0, 20))
    write(dev, rows(name, 20, 26))
    write(tmp_path / f"{dev.stem.replace('dev', 'test').replace('validation', 'test')}.jsonl", [{}])
    splits = load(name, tmp_path, validation_size=5)
    assert {*splits.test} == expected(name, 20, 26)
    assert {*splits.train, *splits.validation} == expected(name, 0, 20)
    assert (len(splits.train), len(splits.validation)) == (15, 5)


def hub(monkeypatch, splits) -> list[tuple[str, str | None]]:
    asked = []

    def load_dataset(source, config):
        asked.append((source, config))
        return splits

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_on_the_hub_validation_is_what_is_reported_and_test_is_not_read(monkeypatch):
    unlabelled = [{**each, "label": -1} for each in rows("mrpc", 50, 60)]
    splits = {"train": rows("mrpc", 0, 9), "validation": rows("mrpc", 9, 12), "test": unlabelled}
    asked = hub(monkeypatch, splits)
    loaded = TASKS["glue/mrpc"].load(Request())
    assert asked == [(SOURCE, "mrpc")]
    assert {*loaded.train} == expected("mrpc", 0, 9)
    assert {*loaded.test} == expected("mrpc", 9, 12)


def test_mnli_is_judged_on_matched_and_mismatched(monkeypatch, tmp_path):
    parts = {
        "train": rows("mnli", 0, 9),
        "validation_matched": rows("mnli", 9, 12),
        "validation_mismatched": rows("mnli", 12, 16),
    }
    hub(monkeypatch, parts)
    of_hub = TASKS["glue/mnli"].load(Request())
    for name, part in parts.items():
        write(tmp_path / f"mnli_{name.replace('validation', 'dev')}.jsonl", part)
    for splits in (of_hub, load("mnli", tmp_path)):
        assert {*splits.test} == expected("mnli", 9, 12)
        assert {*splits.further["mm"]} == expected("mnli", 12, 16)


def test_what_is_judged_by_is_never_trained_on(tmp_path):
    """Not even with another label."""
    other = [{**row("sst2", i), "label": 1 - i % 2} for i in (30, 31)]
    write(tmp_path / "train.jsonl", rows("sst2", 0, 20) * 2 + rows("sst2", 30, 36) + other)
    write(tmp_path / "dev.jsonl", rows("sst2", 30, 36))
    splits = load("sst2", tmp_path, validation_size=4, test_size=2)
    held = {each.first for each in (*splits.validation, *splits.test)}
    assert not held & {each.first for each in splits.train}
    assert not {f"text {i}" for i in range(30, 36)} & {each.first for each in splits.train}
    assert len(splits.test) == 2


def test_sizes_take_from_one_order_and_the_seed_of_the_draw_changes_it(tmp_path):
    write(tmp_path / "train.jsonl", rows("cola", 0, 40))
    write(tmp_path / "dev.jsonl", rows("cola", 40, 60))
    whole = load("cola", tmp_path, validation_size=8)
    part = load("cola", tmp_path, validation_size=8, train_size=10)
    assert (part.validation, part.train) == (whole.validation, whole.train[:10])
    assert load("cola", tmp_path, validation_size=8) == whole
    assert load("cola", tmp_path, validation_size=8, seed=1).validation != whole.validation


def test_a_single_file_is_split(tmp_path):
    file = write(tmp_path / "qnli_dev.jsonl", rows("qnli", 0, 30))
    splits = load("qnli", file, validation_size=4, test_size=6)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 4, 6]
    assert {*splits.train, *splits.validation, *splits.test} == expected("qnli", 0, 30)
    with pytest.raises(DataError, match="held-out-size"):
        load("qnli", file)


GOOD = {"sentence1": "a", "sentence2": "b", "label": 1}


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("mrpc", GOOD | {"label": 2}, r"line 1: label: expected a class of mrpc, 0 to 1, got 2"),
        ("mrpc", GOOD | {"label": -1}, r"got -1: unlabelled rows"),
        ("mrpc", GOOD | {"label": True}, r"got True"),
        ("mrpc", GOOD | {"label": 1.0}, r"got 1\.0"),
        ("mrpc", GOOD | {"label": "1"}, r"got '1'"),
        ("mrpc", GOOD | {"label": None}, r"got None"),
        ("mrpc", {"sentence1": "a", "label": 1}, r"sentence1 and sentence2.*\['label', 'sentence1"),
        ("mrpc", {"sentence": "a", "label": 1}, r"expected an object with sentence1"),
        ("cola", {"sentence": "a"}, r"label or score"),
        ("cola", {"sentence": 3, "label": 1}, r"expected text in sentence"),
        ("mrpc", GOOD | {"sentence2": None}, r"expected text in sentence1 and sentence2"),
        ("cola", [1], r"got list"),
        ("stsb", GOOD | {"label": float("nan")}, r"expected a finite score, got nan"),
        ("stsb", GOOD | {"label": float("inf")}, r"expected a finite score"),
        ("stsb", GOOD | {"label": "high"}, r"expected a finite score"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, task, line, message):
    write(tmp_path / "train.jsonl", [line])
    write(tmp_path / "dev.jsonl", [line])
    with pytest.raises(DataError, match=message):
        load(task, tmp_path)


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match="found none"):
        load("cola", tmp_path)
    train = write(tmp_path / "train.jsonl", rows("cola", 0, 5))
    with pytest.raises(DataError, match=r"called dev or validation.*got \['train'\]"):
        load("cola", tmp_path)
    dev = write(tmp_path / "dev.jsonl", [])
    with pytest.raises(DataError, match=r"dev\.jsonl: expected one JSON object a line"):
        load("cola", tmp_path)
    dev.write_text('{"sentence": "a", "label"')
    with pytest.raises(DataError, match=r"dev\.jsonl, line 1"):
        load("cola", tmp_path)
    dev.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        load("cola", tmp_path)
    write(dev, rows("cola", 5, 9))
    with pytest.raises(DataError, match=r"6 training, 2 validation and 9 test.*got 3, 2 and 4"):
        load("cola", tmp_path, train_size=6, validation_size=2, test_size=9)
    train.unlink()
    with pytest.raises(DataError, match="called train"):
        load("cola", tmp_path)


def test_a_data_set_that_the_hub_does_not_have_says_what_to_do(monkeypatch):
    def refuse(source, config):
        raise FileNotFoundError("no such thing")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=refuse))
    with pytest.raises(DataError, match=r"nyu-mll/glue.*no such thing.*--data"):
        TASKS["glue/rte"].load(Request())
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"loram\[hub\]"):
        TASKS["glue/rte"].load(Request())


def test_an_unknown_task_is_refused_with_near_names():
    assert named(" GLUE/mrpc ").name == "glue/mrpc"
    with pytest.raises(UnknownTaskError, match="Did you mean glue/mrpc"):
        named("glue/mrcp")


def test_answers_have_a_validation_set_that_does_not_depend_on_the_training_size(sums):
    load_answers = TASKS["answers"].load
    source = {"source": str(sums), "test_size": 5}
    plain = load_answers(Request(**source))
    tuned = load_answers(Request(**source, validation_size=6))
    fewer = load_answers(Request(**source, validation_size=6, train_size=3))
    assert plain.test == tuned.test == fewer.test
    assert tuned.validation == fewer.validation
    assert fewer.train == plain.train[:3] == tuned.train[:3]
    assert not {*tuned.validation} & {*tuned.train, *tuned.test}
    with pytest.raises(DataError, match="validation"):
        load_answers(Request(**source, validation_size=6, train_size=30))
    made = load_answers(Request(validation_size=4, train_size=9, test_size=3))
    assert [len(part) for part in (made.train, made.validation, made.test)] == [9, 4, 3]
