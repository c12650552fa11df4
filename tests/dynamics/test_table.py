"""The table of equivalents: rows are one run, and say so in the units of a LoraConfig."""

import pytest

from loram.dynamics import Settings
from loram.dynamics.table import as_table, equivalents, notes


def products(settings: Settings) -> list[float]:
    """What Proposition 1 keeps under Adam: s times sizes, rates over sizes, ε times sizes."""
    s, a = settings.scaling, settings.size_A
    # With B⁰ = 0 its size is the rate's: η_B s a is the first step of W_LoRA.
    return [s * a * settings.rate_B, settings.lr_A / a, settings.eps_A * a, settings.decay_A * a]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum"])
@pytest.mark.parametrize("scaling", [0.25, 2.0, 16.0])
def test_rows_are_one_run(optimizer, scaling):
    run = Settings(scaling=scaling, size_B=0.0, optimizer=optimizer, lr_A=3e-4, decay_A=0.1)
    rows = equivalents(run, 16)
    assert rows[0].settings == run
    assert len(rows) == 5
    power = 1 if optimizer in ("adam", "adamw") else 2
    for row in rows:
        got = row.settings
        split_A = got.size_A
        split_B = scaling / (got.scaling * split_A)
        assert got.lr_A == pytest.approx(run.lr_A * split_A**power)
        assert got.rate_B == pytest.approx(run.lr_A * split_B**power)
        if optimizer == "adamw":
            assert products(got)[1:] == pytest.approx(products(run)[1:])
        assert row.alpha == pytest.approx(got.scaling * 16)
        assert row.alpha_rslora == pytest.approx(got.scaling * 4)


def test_rslora_is_lora_plus():
    """PAPER's Table 1: s = √r = 4 at one rate, and s = 1 with η_B = 4η_A."""
    run = Settings(scaling=4.0, size_B=0.0, lr_A=2e-4)
    plus = next(row for row in equivalents(run, 16) if "LoRA+" in row.name)
    assert (plus.alpha, plus.ratio, plus.stock) == (16.0, 4.0, True)
    assert (plus.settings.eps_A, plus.settings.eps_B) == (1e-8, 0.25e-8)


def test_what_repeats_is_left_out():
    """At s = 1 all ways of s = 1 are the run itself; at r = 1 so is s = √r."""
    names = [row.name for row in equivalents(Settings(scaling=1.0), 16)]
    assert names == ["as given", "s = √r, the rest in B"]
    assert len(equivalents(Settings(scaling=1.0), 1)) == 1


def test_lines_of_the_table():
    def lines(**settings):
        headings, cells = as_table(equivalents(Settings(**settings), 16))
        assert all(len(row) == len(headings) for row in cells)
        return [row[0] for row in cells]

    assert "ε_B" in lines(scaling=2.0)
    assert "λ_A" not in lines(scaling=2.0)
    assert "λ_A" in lines(scaling=2.0, decay_B=0.1)
    assert "ε_A" not in lines(scaling=2.0, optimizer="sgd")
    assert "B⁰ ×" not in lines(scaling=2.0, size_B=0.0)


def test_notes():
    adam = notes(equivalents(Settings(scaling=2.0, size_B=0.0), 16))
    assert [n.split(" ")[0] for n in adam] == ["One", "Adam's", "A⁰"]
    alone = notes(equivalents(Settings(scaling=1.0, optimizer="sgd"), 1))
    assert len(alone) == 1
    assert "max_grad_norm=0" in alone[0]


def test_a_rank_below_1():
    with pytest.raises(ValueError, match="rank ≥ 1, got 0"):
        equivalents(Settings(), 0)
