"""What a method costs: its tuning, its start, its memory, and the time until it is good."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from loram.study.record import Record
from loram.study.results import Design, Run
from loram.study.select import sign

__all__ = ["Cost", "Reached", "cost", "reached", "reference_target"]


class Cost(NamedTuple):
    """A method on one task and rank.

    Attributes:
        tuning_runs: of its sweep, diverged and failed ones too.
        tuning_seconds: of them, starts included.
        init_seconds: median of a start, calibration included.
        train_seconds: median of all steps of a run that is done.
        peak_memory: median of all runs, bytes.
        calibration_tokens: median of a start's.
        trainable: parameters.
    """

    tuning_runs: int
    tuning_seconds: float
    init_seconds: float | None
    train_seconds: float | None
    peak_memory: int | None
    calibration_tokens: int | None
    trainable: int | None


class Reached(NamedTuple):
    """When a run's validation first reached a target.

    Attributes:
        step: of the validation.
        seconds: of training until then.
        with_init: those and the start's; None if the start was not timed.
    """

    step: int
    seconds: float
    with_init: float | None


def cost(runs: Sequence[Run], design: Design) -> Cost:
    """Add up what a method's runs on one task and rank took."""
    tuning = [run.record for run in runs if design.tunes(run)]
    records = [run.record for run in runs]
    done = [r for r in records if r.status == "done"]
    return Cost(
        len(tuning),
        sum(map(_taken, tuning)),
        _median(r.init_seconds for r in records),
        _median(r.train_seconds for r in done),
        _whole(_median(r.peak_memory_bytes for r in records)),
        _whole(_median(r.calibration_tokens for r in records)),
        _whole(_median(r.trainable for r in done)),
    )


def _taken(record: Record) -> float:
    """Seconds of start and steps; of a run that diverged or failed, all that is known of it."""
    if record.train_seconds is None and record.wall_seconds is not None:
        return record.wall_seconds
    return (record.init_seconds or 0.0) + (record.train_seconds or 0.0)


def reached(record: Record, target: float) -> Reached | None:
    """When the validation curve first is at the target or better; None if it never is."""
    metric, better = record.curve_metric
    for step, seconds, metrics in record.curve:
        value = metrics.get(metric)
        if value is not None and sign(better) * (value - target) >= 0:
            start = record.init_seconds
            return Reached(step, seconds, None if start is None else seconds + start)
    return None


def reference_target(records: Iterable[Record]) -> float | None:
    """Mean over a method's runs of the best value on their validation curves."""
    tops: list[float] = []
    for record in records:
        metric, better = record.curve_metric
        values = [judged.metrics[metric] for judged in record.curve if metric in judged.metrics]
        if record.status == "done" and values:
            tops.append(max(values) if better == "high" else min(values))
    return sum(tops) / len(tops) if tops else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
