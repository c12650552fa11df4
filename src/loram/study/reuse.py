"""Records of runs that were done elsewhere: in another folder, or by whoever published a report.

    loram compare docs/audit/gains.yaml --out runs/gains --reuse docs/audit/gains/runs.parquet

A record counts by its key, which settings, data and versions decide: what a study has no run of is
of no use to it, and does no harm.
"""

from collections.abc import Iterable
from pathlib import Path

from loram.study.errors import StudyError
from loram.study.record import Record
from loram.study.report.flat import read_runs
from loram.study.store import Store

__all__ = ["reusable", "reuse"]


def reusable(sources: Iterable[Path]) -> list[Record]:
    """Records of all sources, those of runs that failed left out.

    Args:
        sources: folders of studies, or `runs.parquet` of reports.

    Raises:
        StudyError: neither of them.
    """
    return [each for source in sources for each in _read(source) if each.status != "failed"]


def reuse(records: Iterable[Record], store: Store) -> int:
    """Write those that a study's folder has no result of; returns their number."""
    taken = 0
    for each in records:
        with store.lock(each.key) as ours:
            if ours and store.result(each.key) is None:
                store.write(each)
                taken += 1
    return taken


def _read(source: Path) -> list[Record]:
    if (source / "runs").is_dir():
        return Store(source).records()
    if source.is_file():
        return read_runs(source)
    raise StudyError(
        f"expected a study's folder or the runs.parquet of a report to reuse, got {source}"
    )
