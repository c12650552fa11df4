"""Selection, comparison, cost and findings on runs whose answer is known."""

import math

import numpy as np
import pytest
import synthetic

from loram.study.across import TaskScores, overall
from loram.study.comparison import Scores, compare, verdict
from loram.study.cost import cost, reached, reference_target
from loram.study.findings import find
from loram.study.missing import missing
from loram.study.results import Design
from loram.study.select import tuned


def made(**options):
    return synthetic.results(*synthetic.make(**options))


def test_the_grid_is_that_of_powers_of_ten():
    design = Design("s", ("a",), ("t",), (8,), (0,), (0,), 1e-5, 1e-3, 4)
    assert design.grid() == pytest.approx([10 ** (k / 4) for k in range(-20, -11)])
    assert design.on_grid(10**-2.25)
    assert not design.on_grid(3e-4)
    assert Design("s", ("a",), ("t",), (8,), (0,), (0,), None, None).grid() == ()


def test_each_method_gets_its_own_best_rate():
    for sweep in tuned(made(noise=0.0), "glue/mrpc", 8):
        assert math.log10(sweep.lr) == pytest.approx(synthetic.METHODS[sweep.label][0])
        assert sweep.edge is None
        assert len(sweep.rates) == 13


def test_equal_scores_tie_in_whatever_order_the_seeds_have_them():
    scores = {-3.5: (0.3, 0.2, 0.1), -3.25: (0.1, 0.2, 0.3)}  # 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1

    def change(record):
        value = scores.get(round(math.log10(record.lr), 2), (0.0,) * 3)[record.seed]
        return record.model_copy(update={"validation": {"accuracy": value}})

    for sweep in tuned(made(change=change, recipe=(), diverge_above=1.0), "glue/mrpc", 8):
        assert math.log10(sweep.lr) == pytest.approx(-3.5)


def test_a_best_rate_at_the_end_is_flagged_and_one_before_divergence_is_not():
    low = made(change=lambda r: r if r.lr >= 1e-3 else None)
    edges = {each.label: each.edge for each in tuned(low, "glue/mrpc", 8)}
    assert edges["pissa"] == "low"
    assert edges["milora"] is None
    diverging = made(diverge_above=10**-3.2)
    sweep = {each.label: each for each in tuned(diverging, "glue/mrpc", 8)}["milora"]
    assert sweep.lr == pytest.approx(10**-3.25)
    assert sweep.edge is None
    one = made(change=lambda r: r if r.lr == pytest.approx(1e-3) else None)
    assert {each.edge for each in tuned(one, "glue/mrpc", 8)} == {"only"}


def test_recipe_rates_off_the_grid_are_not_tuned_on():
    results = made(recipe=(3e-4,))
    for sweep in tuned(results, "glue/mrpc", 8):
        assert 3e-4 not in [rate.lr for rate in sweep.rates]


def test_nothing_is_claimed_without_significance():
    noise = np.random.default_rng(0).normal(size=(4, 3))
    methods = {f"m{k}": Scores(dict(enumerate(row))) for k, row in enumerate(noise)}
    found = compare(methods, "m0", "high")
    base = methods["m0"]
    said = {verdict(line, base, "high") for line in found.lines if line.label != "m0"}
    assert said == {"no significant difference"}
    assert [line.mean.mean for line in found.lines] == sorted(noise.mean(axis=1), reverse=True)


def test_false_claims_stay_below_five_percent_of_families():
    """All methods alike: how often is any of four called different from the reference?"""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(100):
        table = generator.normal(size=(5, 3)) + generator.normal(size=3)
        found = compare(
            {f"m{k}": Scores(dict(enumerate(row))) for k, row in enumerate(table)}, "m0", "high"
        )
        wrong += any(line.p is not None and line.p < 0.05 for line in found.lines)
    assert wrong <= 10


@pytest.mark.parametrize(("better", "expected"), [("high", "better"), ("low", "worse")])
def test_a_method_with_diverged_seeds_is_never_called_better(better, expected):
    base = Scores({0: 0.1, 1: 0.2, 2: 0.3})
    good = {0: 1.1, 1: 1.21, 2: 1.3}
    compared = {
        name: compare({"base": base, "other": Scores(good, diverged)}, "base", better)
        for name, diverged in {"whole": (), "broken": (3,)}.items()
    }
    said = {
        name: next(verdict(x, base, better) for x in found.lines if x.label == "other")
        for name, found in compared.items()
    }
    assert said["whole"] == expected
    assert said["broken"] == ("not tested" if better == "high" else "worse")


def test_the_leader_is_compared_over_all_pairs():
    values = {"a": [1.0, 1.1, 1.2], "b": [0.5, 0.62, 0.7], "c": [0.1, 0.2, 0.31]}
    found = compare({k: Scores(dict(enumerate(v))) for k, v in values.items()}, "c", "high")
    assert found.leader == "a"
    assert [line.label for line in found.behind] == ["b", "c"]
    from scipy import stats

    raw = [stats.ttest_rel(values[x], values[y]).pvalue for x, y in ("ba", "ca", "cb")]
    smallest = min(raw)
    of_pair = dict(zip(("b", "c"), raw, strict=False))
    least = min(found.behind, key=lambda line: line.p)
    assert least.p >= of_pair[least.label]
    if smallest == of_pair[least.label]:
        assert least.p == pytest.approx(3 * smallest)


def test_pairs_are_a_family_of_their_own():
    from scipy import stats

    values = {"a": [1.0, 1.1, 1.2], "b": [0.9, 0.96, 1.1], "c": [0.1, 0.3, 0.31], "d": [5.0]}
    asked = [("a", "b"), ("c", "b"), ("a", "d"), ("a", "missing")]
    scores = {k: Scores(dict(enumerate(v))) for k, v in values.items()}
    found = compare(scores, "c", "high", asked)
    assert [(p.first.label, p.second.label) for p in found.pairs] == asked
    assert found.pairs[0].first.against.difference.mean == pytest.approx(0.34 / 3)
    raw = [stats.ttest_rel(values[x], values["b"]).pvalue for x in "ac"]
    least, most = sorted(raw)
    corrected = {least: 2 * least, most: max(2 * least, most)}
    assert [p.first.p for p in found.pairs[:2]] == pytest.approx([corrected[p] for p in raw])
    assert found.pairs[2].first.p is None  # one seed in common
    assert found.pairs[3].first.p is None  # nothing of the other
    assert found._replace(pairs=()) == compare(scores, "c", "high")


def test_cost_adds_up_the_sweep_with_what_diverged():
    results = made()
    runs = [r for r in results.block("glue/mrpc", 8) if r.label == "pissa"]
    found = cost(runs, results.design)
    assert found.tuning_runs == 39
    done, diverged = 36 * (1.6 + 6.0), 3 * 1.6
    assert found.tuning_seconds == pytest.approx(done + diverged)
    assert (found.init_seconds, found.train_seconds) == pytest.approx((1.6, 6.0))
    assert found.peak_memory == 2**28
    assert found.calibration_tokens is None
    timed = [
        r._replace(record=r.record.model_copy(update={"init_seconds": None, "wall_seconds": 5.0}))
        for r in runs
    ]
    assert cost(timed, results.design).tuning_seconds == pytest.approx(36 * 6.0 + 3 * 5.0)


def test_time_to_target_includes_the_start():
    run = synthetic.record("t", "loram", 8, 10**-3.75, 0, noise=0.0)
    (s3, t3, m3), (s6, t6, m6) = run.curve[:2]
    middle = (m3["accuracy"] + m6["accuracy"]) / 2
    assert reached(run, m3["accuracy"]) == (s3, t3, pytest.approx(t3 + 1.6))
    assert reached(run, middle) == (s6, t6, pytest.approx(t6 + 1.6))
    assert reached(run, 0.99) is None
    loss = synthetic.record("t", "loram", 8, 10**-3.75, 0, noise=0.0, better="low")
    assert reached(loss, loss.curve[-1].metrics["loss"]).step == 12
    assert reached(loss, 0.0) is None
    assert reference_target([run]) == run.curve[-1].metrics["accuracy"]
    assert reference_target([]) is None


def test_curves_without_the_main_metric_are_of_the_loss():
    """As of GSM8K, whose answers are written only at the end."""
    run = synthetic.record("t", "loram", 8, 10**-3.75, 0, noise=0.0, better="low")
    exact = run.model_copy(update={"metric": "exact_match", "better": "high"})
    assert exact.curve_metric == ("loss", "low")
    assert exact.model_copy(update={"curve": ()}).curve_metric == ("exact_match", "high")
    losses = [judged.metrics["loss"] for judged in exact.curve]
    assert reference_target([exact]) == min(losses)
    assert reached(exact, losses[-1]).step == 12
    assert reached(exact, losses[0]).step == exact.curve[0].step
    assert reached(exact, min(losses) - 0.01) is None


def scores(table):
    return TaskScores("high", {k: dict(enumerate(v)) for k, v in table.items()})


def test_ranks_and_scores_over_tasks_by_hand():
    tasks = {
        "one": scores({"a": [3.0, 3.0], "b": [2.0, 2.0], "c": [1.0, 1.0]}),
        "two": scores({"a": [1.0, 3.0], "b": [2.0, 2.0], "c": [0.0, math.nan]}),
    }
    found = {each.label: each for each in overall(tasks, "b").standings}
    assert found["a"].rank == pytest.approx((1 + 1 + 2 + 1) / 4)
    assert found["c"].rank == 3  # divergence is last
    assert found["b"].score == pytest.approx((0.5 + 1) / 2)
    assert found["c"].score == 0
    assert found["a"].against.difference.mean == pytest.approx(((0.5 + 0.5) + (-0.5 + 0.5)) / 4)
    assert found["b"].against is None
    assert overall({"one": tasks["one"]}, "b") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [([0.3, 0.2, 0.1], [0.1, 0.2, 0.3]), ([0.1, 0.3, 0.35], [0.2, 0.2, 0.35])],
)
def test_means_that_differ_by_rounding_alone_are_equal(first, second):
    tasks = {
        "alike": scores({"a": first, "b": second}),
        "apart": scores({"a": [1.0, 1.1, 1.2], "b": [2.0, 2.2, 2.1]}),
    }
    found = overall(tasks, "a")
    assert found.of("a").score == pytest.approx((0.5 + 0) / 2)
    assert found.of("b").score == pytest.approx((0.5 + 1) / 2)


def test_friedman_needs_five_tasks_and_finds_an_order():
    generator = np.random.default_rng(0)
    table = {
        f"t{k}": scores({m: generator.normal(size=3) + 9 * i for i, m in enumerate("abcd")})
        for k in range(8)
    }
    assert overall(dict(list(table.items())[:4]), "a").friedman is None
    found = overall(table, "a")
    assert found.friedman.p < 0.001
    # Demšar, table 5: q of four methods is 2.569.
    assert found.friedman.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 8)), abs=1e-3)
    assert [each.label for each in found.standings] == list("dcba")


def test_findings_of_a_study():
    found = find(made(ranks=(4, 16)), "lora")
    assert [(b.task, b.rank) for b in found.blocks][:2] == [("glue/mrpc", 4), ("glue/mrpc", 16)]
    for block in found.blocks:
        said = {x.label: x for x in block.after.lines}
        assert block.after.leader == "loram"
        assert verdict(said["milora"], said["lora"].scores, "high") == "worse"
        assert set(block.recipe) == {1e-4}
        assert block.split == "test"
    assert set(found.over_tasks) == {4, 16}
    assert found.collapses["glue/rte"].by_update.r2 > found.collapses["glue/rte"].by_lr.r2
    assert abs(found.slopes["glue/mrpc", "lora"].slope) < 1  # the best rate does not move


def test_a_finished_study_lacks_nothing_and_an_unfinished_one_is_counted():
    whole = made()
    sweeps = {(b.task, b.rank): b.sweeps for b in find(whole, "lora").blocks}
    assert missing(whole, sweeps) == []
    part = made(
        change=lambda r: None if (r.method, r.seed, r.task) == ("pissa", 2, "glue/rte") else r
    )
    found = missing(part, {(b.task, b.rank): b.sweeps for b in find(part, "lora").blocks})
    assert {each.what: each.lacking for each in found} == {
        "tuning": {"pissa": 13},
        "best rates": {"pissa": 1},
        "fixed rates": {"pissa": 1},
    }
    assert {each.task for each in found} == {"glue/rte"}
    none = made(change=lambda r: None)
    assert sum(sum(x.lacking.values()) for x in missing(none, {})) == 2 * 5 * (13 * 3 + 3)
