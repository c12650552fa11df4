"""Every run of a study, flat, as CSV and Parquet; what Parquet holds is read back whole."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loram.study.errors import StudyError
from loram.study.record import Judged, Record
from loram.study.results import Run

__all__ = ["flat", "read_runs", "write_runs"]

_PLAIN = (
    *("key", "model", "task", "method", "rank", "lr", "seed", "status", "metric", "better"),
    *("update", "init_seconds", "train_seconds", "wall_seconds", "calibration_tokens"),
    *("peak_memory_bytes", "trainable", "error"),
)


def flat(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a run: the record's fields, metrics as `test_…` and `validation_…`.

    Settings that differ between runs are columns `setting_…`; all of them, the versions and the
    curves are JSON.
    """
    differing = _differing([run.record.settings for run in runs])
    rows: list[dict[str, Any]] = []
    for label, task, record, _ in runs:
        row: dict[str, Any] = {"label": label, "task_label": task}
        row |= {name: getattr(record, name) for name in _PLAIN}
        row |= {f"validation_{name}": value for name, value in sorted(record.validation.items())}
        row |= {f"test_{name}": value for name, value in sorted(record.test.items())}
        row["steps"] = len(record.losses)
        row["final_loss"] = record.losses[-1] if record.losses else None
        row |= {f"setting_{name}": _cell(record.settings.get(name)) for name in differing}
        row["losses"] = json.dumps(record.losses)
        row["curve"] = json.dumps([judged._asdict() for judged in record.curve])
        row["settings"] = json.dumps(record.settings, sort_keys=True, default=str)
        row["versions"] = json.dumps(record.versions, sort_keys=True)
        rows.append(row)
    return rows


def write_runs(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write `runs.csv` and `runs.parquet`, each whole or not at all; returns them."""
    import polars

    rows = flat(runs)
    columns = list(dict.fromkeys(name for row in rows for name in row)) or [
        "label",
        "task_label",
        *_PLAIN,
    ]
    table = polars.DataFrame(
        {name: [row.get(name) for row in rows] for name in columns}, strict=False
    )
    return [
        _replaced(folder / "runs.csv", table.write_csv),
        _replaced(folder / "runs.parquet", table.write_parquet),
    ]


def read_runs(file: Path) -> list[Record]:
    """The records of a `runs.parquet`.

    Raises:
        StudyError: it is none, or polars is not installed.
    """
    try:
        import polars
    except ImportError:
        raise StudyError("reading runs needs polars: pip install 'loram[study]'") from None
    try:
        rows = polars.read_parquet(file).to_dicts()
        return [_record(row) for row in rows]
    except (polars.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        first = told.splitlines()[0]
        raise StudyError(
            f"expected a runs.parquet that `loram report` wrote, got {file} ({first})"
        ) from error


def _record(row: Mapping[str, Any]) -> Record:
    """What `flat` made a row of."""
    return Record(
        **{name: row[name] for name in _PLAIN},
        validation=_metrics(row, "validation_"),
        test=_metrics(row, "test_"),
        losses=tuple(json.loads(row["losses"])),
        curve=tuple(Judged(**judged) for judged in json.loads(row["curve"])),
        settings=json.loads(row["settings"]),
        versions=json.loads(row["versions"]),
    )


def _metrics(row: Mapping[str, Any], begins: str) -> dict[str, float]:
    named = {name.removeprefix(begins): row[name] for name in row if name.startswith(begins)}
    return {name: value for name, value in named.items() if value is not None}


def _replaced(file: Path, write: Callable[[Path], Any]) -> Path:
    staging = file.with_name(f".{file.name}.part")
    write(staging)
    staging.replace(file)
    return file


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for each in settings for name in each)
    own = {"method", "rank", "lr", "seed", "task", "model"}  # columns of the record already
    return [
        name
        for name in names
        if name not in own and len({json.dumps(s.get(name), default=str) for s in settings}) > 1
    ]


def _cell(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
