"""What a report says of several ranks, against powers of the rank that the runs are made by."""

import csv

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

import synthetic

from loram.study.findings import find
from loram.study.report.over_ranks import draw_over_ranks, over_ranks

POWERS = {"lora": 1.0, "rslora": 2.0, "loram": 0.5}
RANKS = (2, 4, 32)


def powers(record):
    """ν[W_LoRA] = rank^power; of RsLoRA, rank 4 is missing and no run is done at rank 32."""
    if record.method == "rslora" and record.rank == 4:
        return None
    changes = {"update": 1e-8 * record.rank ** POWERS[record.method]}
    if record.method == "rslora" and record.rank == 32:
        changes = {"status": "diverged", "update": None, "error": "the loss is nan"}
    return record.model_copy(update=changes)


@pytest.fixture(scope="module")
def findings():
    made = synthetic.make(
        methods=tuple(POWERS), tasks=("glue/mrpc",), ranks=RANKS, noise=0.0, change=powers
    )
    return find(synthetic.results(*made), "lora")


def test_a_table_for_the_best_rates_and_one_for_each_fixed_rate(findings):
    tuned, fixed = over_ranks(findings)
    assert "glue/mrpc, best rates: accuracy on test (high" in tuned.caption
    assert "glue/mrpc, lr 1e-4:" in fixed.caption
    assert tuned.headings == ("method", "2", "4", "32")  # their rates decide their magnitudes
    assert fixed.headings == ("method", "2", "4", "32", "slope of log ν")
    rows = {row[0]: row[1:] for row in fixed.rows}
    assert list(rows) == list(POWERS)
    assert (rows["lora"][-1], rows["loram"][-1]) == ("+1.00", "+0.50")
    assert [cell.split(", ")[1] for cell in rows["lora"][:3]] == ["2e-8", "4e-8", "3.2e-7"]
    # Runs that are missing or diverged have no numbers, and one rank has no slope.
    assert rows["rslora"][0].endswith(", 4e-8")
    assert rows["rslora"][1:] == ("–", "– (3 diverged)", "–")


def test_the_picture_has_the_means_of_the_comparisons(findings, tmp_path):
    (picture,) = draw_over_ranks(findings, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with open(picture.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(r["setting"], r["method"], int(r["rank"])): r for r in rows}
    assert len(found) == len(rows) == 2 * 3 * 3
    gap = found["glue/mrpc, lr 1e-4", "rslora", 32]
    assert (gap["mean"], gap["nu_update"], gap["diverged"]) == ("", "", "3")
    for block in findings.blocks:
        for line in block.recipe[1e-4].lines:
            if line.mean is None:
                continue
            row = found["glue/mrpc, lr 1e-4", line.label, block.rank]
            assert float(row["mean"]) == pytest.approx(line.mean.mean)
            assert float(row["low"]) == pytest.approx(line.mean.low)
            assert float(row["nu_update"]) == pytest.approx(1e-8 * block.rank ** POWERS[line.label])


def test_numbers_and_magnitudes_are_of_the_reported_seeds_and_the_rest_is_said():
    def change(record):
        if record.seed == 10:  # a tuning seed
            return record.model_copy(update={"update": 1.0})
        if record.seed == 2 and record.rank == 8:
            return record.model_copy(update={"status": "diverged", "update": None})
        return record.model_copy(update={"update": 1e-8})

    made = synthetic.make(
        methods=("lora", "loram"),
        tasks=("glue/mrpc",),
        ranks=(4, 8),
        tuning_seeds=(10,),
        change=change,
    )
    tuned, fixed = over_ranks(find(synthetic.results(*made), "lora"))
    for table in (tuned, fixed):
        for _, four, eight, *_ in table.rows:
            assert four.endswith(", 1e-8")
            assert eight.endswith(", 1e-8 (1 diverged)")


def test_a_sweep_at_one_of_two_ranks_is_not_over_ranks():
    made = synthetic.make(
        tasks=("glue/mrpc",),
        ranks=(4, 8),
        recipe=(1.5e-4,),
        change=lambda r: r if r.rank == 4 or r.lr == 1.5e-4 else None,
    )
    (fixed,) = over_ranks(find(synthetic.results(*made), "lora"))
    assert "lr 1.5e-4" in fixed.caption


def test_of_a_single_rank_nothing_is_said(tmp_path):
    one = find(synthetic.results(*synthetic.make(tasks=("glue/mrpc",))), "lora")
    assert over_ranks(one) == []
    assert draw_over_ranks(one, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
