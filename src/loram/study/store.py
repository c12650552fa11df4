"""The folder of a study: one folder a run, named by its key, and what belongs to all of them.

    OUT/study.yaml      the study, defaults filled in
    OUT/plan.json       its runs, and what they are for
    OUT/runs/KEY/       record.json and what the run wrote
    OUT/locks/KEY       held by the process that works on the run

Several studies, and several processes of one, may share a folder.
"""

import json
import logging
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loram.files import write_text
from loram.study.errors import StudyError
from loram.study.record import Record

__all__ = ["Store"]

logger = logging.getLogger(__name__)

_RECORD = "record.json"


class Store:
    """Records and locks of one folder."""

    def __init__(self, out: Path) -> None:
        """Make the folder.

        Raises:
            StudyError: it can't be made.
        """
        self.out = out
        try:
            (out / "runs").mkdir(parents=True, exist_ok=True)
            (out / "locks").mkdir(exist_ok=True)
        except OSError as error:
            raise StudyError(f"can't make {out} ({error}): name another folder") from error

    def folder(self, key: str) -> Path:
        """Of a run."""
        return self.out / "runs" / key[:16]

    def find(self, key: str) -> Record | None:
        """The record of a run; None if there is none that can be read.

        A file that is cut short or belongs to another run counts as none: the run is done again.
        """
        file = self.folder(key) / _RECORD
        try:
            record = Record.model_validate_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            logger.warning("%s is damaged, the run is done again (%s)", file, reason)
            return None
        if record.key != key:
            logger.warning("%s is of another run, this one is done again", file)
            return None
        return record

    def result(self, key: str) -> Record | None:
        """As `find`, but none of a run that failed, which is to be done again."""
        record = self.find(key)
        return None if record is None or record.status == "failed" else record

    def records(self) -> list[Record]:
        """All that can be read, of whichever study, by key."""
        found: list[Record] = []
        for file in sorted((self.out / "runs").glob(f"*/{_RECORD}")):
            try:
                found.append(Record.model_validate_json(file.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError, ValidationError):
                logger.warning("%s is damaged and left out", file)
        return found

    def write(self, record: Record) -> None:
        """The record of a run, all of it or nothing."""
        folder = self.folder(record.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _RECORD, record.model_dump_json(indent=1) + "\n")

    def prepare(self, key: str, settings: Mapping[str, Any], *, clean: bool) -> Path:
        """The run's folder, ready to start or go on; emptied if what is in it is of no use.

        Args:
            key: of the run.
            settings: of the run.
            clean: begin from nothing.
        """
        folder = self.folder(key)
        if clean or not _goes_on(folder, settings):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _RECORD).unlink(missing_ok=True)  # damaged, or of a failure
        return folder

    @contextmanager
    def lock(self, key: str) -> Generator[bool]:
        """Whether the run is ours to do while inside; a process that dies lets go."""
        import fcntl

        with open(self.out / "locks" / key[:16], "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def write_plan(self, study: str, plan: Mapping[str, Any]) -> None:
        """`study.yaml` and `plan.json`, one process at a time."""
        import fcntl

        with open(self.out / "locks" / "plan", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            write_text(self.out / "study.yaml", study)
            write_text(self.out / "plan.json", json.dumps(plan, indent=1) + "\n")


def _goes_on(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run that was begun here is this one."""
    try:
        known = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return known == settings
