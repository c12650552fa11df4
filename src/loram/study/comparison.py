"""Methods side by side at one setting: who differs from the reference, who from the leader."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from loram.study.results import Better
from loram.study.select import sign
from loram.study.statistics import ALPHA, Interval, Paired, bootstrap, holm, paired, student

__all__ = ["Comparison", "Line", "Pair", "Scores", "Verdict", "claim", "compare", "verdict"]

Verdict = Literal["better", "worse", "no significant difference", "not tested"]


class Scores(NamedTuple):
    """A method at one setting.

    Attributes:
        values: metric by seed.
        diverged: seeds.
        lr: its learning rate; None if it has none that works.
    """

    values: Mapping[int, float]
    diverged: Sequence[int] = ()
    lr: float | None = None


class Line(NamedTuple):
    """A method in a comparison.

    Attributes:
        label: of the method.
        scores: its numbers.
        mean: with Student's interval; None without numbers.
        resampled: the mean with the bootstrap's interval.
        against: difference to the other side, this method minus that; None for that itself.
        p: of the paired t-test, corrected by Holm over the family.
    """

    label: str
    scores: Scores
    mean: Interval | None
    resampled: Interval | None
    against: Paired | None = None
    p: float | None = None


class Pair(NamedTuple):
    """Two methods that the study asks to compare.

    Attributes:
        first: compared with the second; the family is the study's pairs.
        second: compared with nothing.
    """

    first: Line
    second: Line


class Comparison(NamedTuple):
    """Methods at one setting, best mean first, those without numbers last.

    Attributes:
        better: direction of the metric.
        reference: the label all are compared with; None if it isn't there.
        lines: compared with the reference; the family is all methods but it.
        leader: label of the best mean.
        behind: compared with the leader. Which one leads is seen in the data, so the family is all
            pairs of methods.
        pairs: in the order they were asked for in.
    """

    better: Better
    reference: str | None
    lines: tuple[Line, ...]
    leader: str | None
    behind: tuple[Line, ...]
    pairs: tuple[Pair, ...] = ()


def compare(
    methods: Mapping[str, Scores],
    reference: str,
    better: Better,
    pairs: Sequence[tuple[str, str]] = (),
) -> Comparison:
    """Compare methods by their values at equal seeds.

    Args:
        methods: by label.
        reference: one of them, or nothing is compared with it.
        better: direction of the metric.
        pairs: labels to compare besides, the first with the second; a method that is not here has
            no results.
    """
    plain = [_line(label, scores) for label, scores in methods.items()]
    plain.sort(key=lambda line: _order(line, better))
    leader = plain[0] if plain and plain[0].mean is not None else None
    base = methods.get(reference)
    return Comparison(
        better,
        reference if base is not None else None,
        tuple(_against(plain, reference, base)),
        None if leader is None else leader.label,
        () if leader is None else tuple(_behind(plain, leader)),
        tuple(_paired(plain, pairs)),
    )


def verdict(line: Line, other: Scores, better: Better) -> Verdict:
    """What may be said of a method beside another.

    A difference counts if its corrected p is below ALPHA, and never in favour of a method some of
    whose seeds diverged: the mean of the others would flatter it.
    """
    if line.against is None:
        return "not tested"
    ahead = sign(better) * line.against.difference.mean > 0
    return claim(line.p, ahead, bool(line.scores.diverged if ahead else other.diverged))


def claim(p: float | None, ahead: bool, broken: bool) -> Verdict:
    """What a corrected p allows to be said of a method.

    Args:
        p: None if it could not be tested.
        ahead: of the other.
        broken: whether seeds of the one that is ahead diverged.
    """
    if p is None:
        return "not tested"
    if p >= ALPHA:
        return "no significant difference"
    if broken:
        return "not tested"
    return "better" if ahead else "worse"


def _line(label: str, scores: Scores) -> Line:
    values = list(scores.values.values())
    if not values:
        return Line(label, scores, None, None)
    return Line(label, scores, student(values), bootstrap(values))


def _order(line: Line, better: Better) -> float:
    return math.inf if line.mean is None else -sign(better) * line.mean.mean


def _against(lines: Sequence[Line], reference: str, base: Scores | None) -> list[Line]:
    if base is None:
        return list(lines)
    second = next(line for line in lines if line.label == reference)
    family = _family([(line, second) for line in lines if line is not second])
    tested = {line.label: line for line in family}
    return [tested.get(line.label, line) for line in lines]


def _behind(lines: Sequence[Line], leader: Line) -> list[Line]:
    pairs = [(second, first) for first, second in combinations(lines, 2)]
    tested = zip(_family(pairs), pairs, strict=True)
    return [line for line, (_, first) in tested if first is leader]


def _paired(lines: Sequence[Line], pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    by_label = {line.label: line for line in lines}

    def of(label: str) -> Line:
        return by_label.get(label) or _line(label, Scores({}))

    asked = [(of(first), of(second)) for first, second in pairs]
    return [Pair(line, second) for line, (_, second) in zip(_family(asked), asked, strict=True)]


def _family(pairs: Sequence[tuple[Line, Line]]) -> list[Line]:
    """The first of each pair, compared with the second and corrected over all of them."""
    tests = [paired(first.scores.values, second.scores.values) for first, second in pairs]
    corrected = holm([None if test is None else test.p for test in tests])
    return [
        first._replace(against=test, p=p)
        for (first, _), test, p in zip(pairs, tests, corrected, strict=True)
    ]
