"""What a run's address depends on, and what it does not."""

import json

from study_fakes import VERSIONS, plan

from loram.study.key import content, local, run_key
from loram.study.plan import Block

BLOCK = Block("answers", 4)


def key(*, method="lora", lr=1e-3, seed=0, versions=VERSIONS, **changes):
    made = plan(**changes)
    made.versions = dict(versions)
    return made.job(made.blocks[0], method, lr, seed).key


def test_labels_order_and_everything_that_is_not_the_run_leave_the_key_alone():
    one = key()
    assert len(one) == 64
    assert one == key(methods=["loram", "lora"], seeds=[0, 3], name="other", workers=7, retries=5)
    assert one == key(method="x", methods=[{"method": "lora", "label": "x"}])
    assert one == key(tasks=[{"task": "answers", "label": "words"}])
    assert one == key(
        base={"model": "none", "validation_size": 4, "dtype": "float32"},
        tasks=[{"task": "answers", "data": "wordmath", "save_every": 7}],
    )
    assert one == key(keep="adapters")


def test_all_that_changes_a_number_changes_the_key():
    keys = [
        key(),
        key(method="loram"),
        key(lr=2e-3),
        key(seed=1),
        key(ranks=[8]),
        key(threads=2),
        key(versions={"loram": "0", "torch": "1"}),
        key(methods=[{"method": "lora", "rslora": True}]),
        key(methods=[{"method": "lora", "steps": 41}]),
    ]
    assert len(set(keys)) == len(keys)


def test_local_data_goes_by_content_not_by_place(tmp_path):
    rows = json.dumps({"question": "a", "answer": "b"}) + "\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(rows)
    first, second = ({"data": str(tmp_path / name)} for name in ("one", "two"))
    assert run_key(first, VERSIONS, 1) == run_key(second, VERSIONS, 1)
    assert content(first["data"]) == content(second["data"])
    (tmp_path / "two" / "train.jsonl").write_text(rows + rows)
    assert run_key(first, VERSIONS, 1) != run_key(second, VERSIONS, 1)
    (tmp_path / "two" / "train.jsonl").write_text(rows)
    (tmp_path / "two" / "train.jsonl").rename(tmp_path / "two" / "other.jsonl")
    assert run_key(first, VERSIONS, 1) != run_key(second, VERSIONS, 1)


def test_a_folder_named_as_what_is_made_by_name_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {"model": "smollm2", "data": "wordmath", "validation_size": 4, "dtype": "float32"}
    before = key(base=base)
    for name in ("smollm2", "wordmath"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("{}")
    assert key(base=base) == before
    # Of another task a folder of that name is data like any.
    of_glue = {"task": "glue/rte", "data": "wordmath"}
    assert local(of_glue) == {"data": "wordmath"}
    assert local({"task": "answers", **base}) == {}


def test_a_file_counts_as_its_content(tmp_path):
    (tmp_path / "one.jsonl").write_text("x")
    (tmp_path / "two.jsonl").write_text("x")
    assert content(str(tmp_path / "one.jsonl")) == content(str(tmp_path / "two.jsonl"))
