"""What can be said: sentences that the tests bear out, and what was not found."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from loram.study.across import Overall, Standing
from loram.study.collapse import Collapse
from loram.study.comparison import Comparison, Line, Scores, verdict
from loram.study.findings import Block, Findings
from loram.study.report.numbers import interval, number, p_equals, rate
from loram.study.statistics import ALPHA

__all__ = ["conclusions", "title_of"]

_T = TypeVar("_T")

NO_DIFFERENCE = "no significant difference"
_TELLING = 0.05  # of R²: smaller advantages are not worth a sentence, whatever their bounds


def title_of(block: Block, lr: float | None = None) -> str:
    """A block's name in headings, with the fixed rate if it is of one."""
    return f"{block.task}, rank {block.rank}" + ("" if lr is None else f", lr {rate(lr)}")


def conclusions(findings: Findings) -> list[tuple[str, tuple[str, ...]]]:
    """Headed lists of sentences, the most general first."""
    found: list[tuple[str, tuple[str, ...]]] = []
    over = [
        (f"Over tasks, rank {rank}, each method at its best rate", each)
        for rank, each in findings.over_tasks.items()
    ]
    over += [
        (f"Over tasks, rank {rank}, all methods at {rate(lr)}", each)
        for (rank, lr), each in findings.over_tasks_fixed.items()
    ]
    found += [(title, tuple(_over(each, findings.reference))) for title, each in over]
    for block in findings.blocks:
        settings = [("each method at its best rate", block.after)] if block.swept else []
        settings += [(f"all methods at {rate(lr)}", each) for lr, each in block.recipe.items()]
        for what, comparison in settings:
            sentences = tuple(_compared(comparison, findings.reference))
            if sentences:
                found.append((f"{title_of(block)}, {what}", sentences))
    magnitude = tuple(_collapsed(t, each) for t, each in findings.collapses.items())
    if magnitude:
        found.append(("Magnitude or learning rate", magnitude))
    return found


def _compared(comparison: Comparison, reference: str) -> Iterable[str]:
    if comparison.leader is None:
        if comparison.lines:
            yield "No method has a result that could be compared."
        return
    if len(comparison.lines) == 1:
        yield f"{comparison.leader} is the only method: there is nothing to compare."
        return
    if comparison.reference is None:
        yield f"There are no runs of the reference {reference}: nothing is compared with it."
    else:
        base = next(line for line in comparison.lines if line.label == reference)
        others = [line for line in comparison.lines if line is not base]
        yield from _sorted_out(others, base.scores, comparison, reference)
    yield from _paired(comparison)
    yield from _led(comparison)


def _sorted_out(
    others: Sequence[Line], base: Scores, comparison: Comparison, reference: str
) -> Iterable[str]:
    by_verdict = _grouped(others, lambda line: verdict(line, base, comparison.better))
    for said in ("better", "worse"):
        lines = by_verdict.get(said, [])
        if lines:
            yield f"Significantly {said} than {reference}: {_listed(map(_effect, lines))}."
    same = by_verdict.get(NO_DIFFERENCE, [])
    if same:
        yield f"{NO_DIFFERENCE.capitalize()} from {reference}: {_listed(map(_broken, same))}."
    untested = by_verdict.get("not tested", [])
    if untested:
        yield f"Not tested against {reference}: {_listed(_reason(x, base) for x in untested)}."


def _paired(comparison: Comparison) -> Iterable[str]:
    by_verdict = _grouped(
        comparison.pairs, lambda pair: verdict(pair.first, pair.second.scores, comparison.better)
    )
    for said in ("better", "worse"):
        for first, second in by_verdict.get(said, []):
            yield f"Pair: {_effect(first)} is significantly {said} than {_broken(second)}."
    for first, second in by_verdict.get(NO_DIFFERENCE, []):
        yield f"Pair: {NO_DIFFERENCE} of {_effect(first)} from {_broken(second)}."
    for first, second in by_verdict.get("not tested", []):
        yield f"Pair: {_reason(first, second.scores)} is not tested against {second.label}."


def _grouped(found: Iterable[_T], said: Callable[[_T], str]) -> dict[str, list[_T]]:
    groups: dict[str, list[_T]] = {}
    for each in found:
        groups.setdefault(said(each), []).append(each)
    return groups


def _broken(each: Line | Standing) -> str:
    """A method, with its seeds that diverged, or its runs of all tasks."""
    if isinstance(each, Standing):
        what, count = "runs", each.diverged
    else:
        what, count = "seeds", len(each.scores.diverged)
    return f"{each.label} ({what} diverged: {count})" if count else each.label


def _led(comparison: Comparison) -> Iterable[str]:
    lead = next(line for line in comparison.lines if line.label == comparison.leader)
    alike = [
        _broken(line)
        for line in comparison.behind
        if verdict(line, lead.scores, comparison.better) == NO_DIFFERENCE
    ]
    assert lead.mean is not None  # a leader is one by its mean
    start = f"Best mean: {lead.label}, {number(lead.mean.mean)}"
    tested = [line for line in comparison.behind if line.p is not None]
    if lead.scores.diverged:
        start += f" ({len(lead.scores.diverged)} of its seeds diverged)"
    if not tested:
        yield f"{start}; not tested against the others."
        return
    worse = [
        _broken(line) for line in tested if verdict(line, lead.scores, comparison.better) == "worse"
    ]
    if alike:
        yield f"{start}; not distinguishable from it: {_listed(alike)}."
    elif len(worse) == len(tested):
        yield f"{start}; all {len(tested)} others that could be tested are significantly worse."
    else:
        some = f"significantly worse: {_listed(worse)}" if worse else "none is called worse"
        yield f"{start}; {some}."


def _effect(each: Line | Standing) -> str:
    assert each.against is not None  # it has a verdict
    return f"{_broken(each)} ({interval(each.against.difference)}, {p_equals(each.p)})"


def _reason(line: Line, base: Scores) -> str:
    if line.scores.diverged:
        return _broken(line)
    if line.mean is None:
        return f"{line.label} (no results)"
    if not base.values:
        return f"{line.label} (the other has no results)"
    if line.against is None:
        return f"{line.label} (no seed in common)"
    if line.against.difference.n < 2:
        return f"{line.label} (one seed only)"
    if base.diverged:
        return f"{line.label} (seeds of the other diverged: {len(base.diverged)})"
    return f"{line.label} (the same difference at every seed)"


def _over(overall: Overall, reference: str) -> Iterable[str]:
    base = overall.of(reference)
    if base is not None:
        yield from _scored([each for each in overall.standings if each is not base], base)
    first = overall.standings[0]
    yield f"Best mean rank: {_broken(first)}, {first.rank:.2f} of {len(overall.standings)}."
    if overall.friedman is None:
        return
    if overall.friedman.p < ALPHA:
        alike = [
            each.label
            for each in overall.standings[1:]
            if each.rank - first.rank < overall.friedman.critical
        ]
        text = f"not distinguishable from {first.label} by Nemenyi's test: {_listed(alike)}"
        yield (
            f"Methods differ over tasks (Friedman, {p_equals(overall.friedman.p)}); "
            f"{text if alike else f'all others rank below {first.label} by Nemenyi’s test'}."
        )
    else:
        yield f"{NO_DIFFERENCE.capitalize()} of methods over tasks (Friedman)."


def _scored(others: Sequence[Standing], base: Standing) -> Iterable[str]:
    by_verdict = _grouped(others, lambda each: each.verdict(base))
    for said, where in (("better", "above"), ("worse", "below")):
        found = by_verdict.get(said, [])
        if found:
            names = _listed(map(_effect, found))
            yield f"Significantly {where} {base.label} in normalised score: {names}."
    same = by_verdict.get(NO_DIFFERENCE, [])
    if same:
        yield f"{NO_DIFFERENCE.capitalize()} from {base.label}: {_listed(map(_broken, same))}."
    untested = by_verdict.get("not tested", [])
    if untested:
        reasons = _listed(_untested(each, base) for each in untested)
        yield f"Not tested against {base.label}: {reasons}."


def _untested(standing: Standing, base: Standing) -> str:
    if standing.diverged:
        return _broken(standing)
    if standing.p is not None:
        return f"{standing.label} (runs of the other diverged: {base.diverged})"
    return f"{standing.label} (one seed of a task, or the same difference at every seed)"


def _collapsed(task: str, found: Collapse) -> str:
    r2, low, high = found.advantage
    shares = f"R² {found.by_update.r2:.2f} and {found.by_lr.r2:.2f}"
    if found.exchange is None or low is None or high is None:
        return (
            f"{task}: whether ν[W_LoRA] or the learning rate carries over between methods can't be "
            f"tested ({shares})."
        )
    own, exchanged, p = found.exchange
    against = f"(R² {own:.2f}, exchanged {exchanged:.2f}, {p_equals(p)})"
    if p < ALPHA:
        said = f"a method's own ν[W_LoRA] predicts its results better than another's {against}"
    else:
        said = f"{NO_DIFFERENCE} between a method's own ν[W_LoRA] and another's {against}"
    if low > 0 and r2 > _TELLING:
        beside = "ν[W_LoRA] predicts better than the learning rate"
    elif high < 0 and r2 < -_TELLING:
        beside = "the learning rate predicts better than ν[W_LoRA]"
    else:
        beside = f"{NO_DIFFERENCE} between ν[W_LoRA] and the learning rate as predictors"
    return f"{task}: {said}; {beside} ({shares}, difference {r2:.2f} [{low:.2f}, {high:.2f}])."


def _listed(names: Iterable[str]) -> str:
    return "; ".join(names)
