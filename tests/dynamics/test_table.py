"""The table of equivalents: every row is the run it says it is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loram.dynamics import Settings
from loram.dynamics.table import as_table, equivalents, notes


def train(run, steps=20):
    """W_LoRA after each step of AdamW on a fixed quadratic, float64; B⁰ = 0."""
    generator = torch.Generator().manual_seed(0)
    A0 = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    target = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    A = (run.size_A * A0).clone().requires_grad_()
    B = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [A], "lr": run.lr_A, "eps": run.eps_A, "weight_decay": run.decay_A},
            {"params": [B], "lr": run.rate_B, "eps": run.eps_B, "weight_decay": run.decay_B},
        ]
    )
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        (run.scaling * B @ A - target).square().sum().backward()
        optimizer.step()
        seen.append((run.scaling * B @ A).detach())
    return torch.stack(seen)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_row_is_the_same_run(decay):
    run = Settings(scaling=2.0, size_B=0.0, lr_A=1e-2, decay_A=decay, decay_B=decay)
    rows = equivalents(run, 16)
    assert len(rows) == 5
    reference = train(run)
    for row in rows:
        assert (train(row.settings) - reference).norm() <= 1e-9 * reference.norm()


@given(
    alpha=st.floats(0.1, 1000),
    rank=st.integers(1, 512),
    lr=st.floats(1e-6, 1e-1),
    ratio=st.floats(0.1, 100),
)
def test_alphas_give_their_scaling_and_no_row_comes_twice(alpha, rank, lr, ratio):
    run = Settings(scaling=alpha / rank, size_B=0.0, lr_A=lr, lr_B=ratio * lr)
    rows = equivalents(run, rank)
    assert rows[0].settings == run
    assert rows[0].ratio == pytest.approx(ratio)
    for row in rows:
        assert row.alpha / rank == pytest.approx(row.settings.scaling)
        assert row.alpha_rslora / math.sqrt(rank) == pytest.approx(row.settings.scaling)
    named = [(r.settings.scaling, r.settings.size_A, r.settings.rate_B) for r in rows]
    assert len(set(named)) == len(named)


def test_rslora_at_rank_16_is_lora_plus_with_ratio_4():
    rslora = Settings(scaling=4.0, size_B=0.0, lr_A=2e-4)
    named = {row.name: row for row in equivalents(rslora, 16)}
    plus = named["s = 1, all in B (LoRA+)"]
    assert plus.settings.scaling == 1
    assert plus.ratio == pytest.approx(4)
    assert plus.settings.lr_A == 2e-4
    assert plus.settings.eps_B == pytest.approx(1e-8 / 4)
    assert plus.stock
    assert "s = √r, the rest in B" not in named  # that is the run itself


def test_a_run_at_one_is_not_repeated():
    names = [row.name for row in equivalents(Settings(size_B=0.0), 16)]
    assert names == ["as given", "s = √r, the rest in B"]


def test_the_table_shows_what_belongs_to_the_optimiser():
    sgd = Settings(scaling=2.0, size_B=0.0, optimizer="sgd")
    headings, cells = as_table(equivalents(sgd, 4))
    lines = [cell[0] for cell in cells]
    assert headings[1] == "as given"
    assert {len(cell) for cell in cells} == {len(headings)}
    assert "ε_A" not in lines
    assert "λ_A" not in lines
    assert "B⁰ ×" not in lines
    adamw = Settings(scaling=2.0, decay_A=0.1, decay_B=0.1)
    lines = [cell[0] for cell in as_table(equivalents(adamw, 4))[1]]
    assert {"ε_A", "ε_B", "λ_A", "λ_B", "B⁰ ×"} <= set(lines)


def test_what_is_needed_is_said():
    said = " ".join(notes(equivalents(Settings(scaling=2.0, size_B=0.0), 4)))
    assert "max_grad_norm=0" in said
    assert "ε" in said
    assert "PEFT has no option" in said
    only = " ".join(notes(equivalents(Settings(size_B=0.0, optimizer="sgd"), 1)))
    assert "ε" not in only
    assert "PEFT has no option" not in only


def test_a_rank_below_one():
    with pytest.raises(ValueError, match="rank ≥ 1, got 0"):
        equivalents(Settings(), 0)
