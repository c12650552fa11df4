"""Records that were cut short, folders of other runs, and who holds a run."""

import json
import subprocess
import sys

import pytest
from study_fakes import execute, plan

from loram.study.errors import StudyError
from loram.study.store import Store


@pytest.fixture
def job():
    made = plan()
    return made.job(made.blocks[0], "lora", 1e-3, 0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out")


def test_a_record_reads_back(store, job):
    record = execute(job, store.prepare(job.key, job.settings, clean=False))
    store.write(record)
    assert store.find(job.key) == record
    assert store.records() == [record]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "\0" * len(text),
        lambda text: "[]",
        lambda text: text.replace('"lr"', '"rate"'),
        lambda text: text.replace('"done"', '"dome"'),
    ],
)
def test_a_damaged_record_is_none(store, job, damage, caplog):
    record = execute(job, store.prepare(job.key, job.settings, clean=False))
    store.write(record)
    file = store.folder(job.key) / "record.json"
    file.write_text(damage(file.read_text()))
    assert store.find(job.key) is None
    assert store.records() == []
    assert "damaged" in caplog.text


def test_a_record_of_another_run_is_none(store, job):
    record = execute(job, store.prepare(job.key, job.settings, clean=False))
    other = job.key[:16] + "0" * 48
    store.write(record.model_copy(update={"key": other}))
    assert store.find(job.key) is None


def test_what_a_run_left_is_kept_only_if_it_goes_on(store, job):
    folder = store.prepare(job.key, job.settings, clean=False)
    (folder / "settings.json").write_text(json.dumps(job.settings))
    (folder / "losses.jsonl").touch()
    (folder / "record.json").write_text("cut sho")
    store.prepare(job.key, job.settings, clean=False)
    assert {each.name for each in folder.iterdir()} == {"settings.json", "losses.jsonl"}
    store.prepare(job.key, {**job.settings, "save_every": 3}, clean=False)
    assert list(folder.iterdir()) == []
    (folder / "settings.json").write_text(json.dumps(job.settings))
    store.prepare(job.key, job.settings, clean=True)
    assert list(folder.iterdir()) == []


def test_a_run_is_held_by_one_process_and_let_go_by_its_death(store, job):
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX); print(True, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(store.out / "locks" / job.key[:16])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with store.lock(job.key) as ours:
            assert not ours
        other.kill()
    with store.lock(job.key) as ours:
        assert ours


def test_a_folder_that_can_not_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="name another folder"):
        Store(tmp_path / "file")
