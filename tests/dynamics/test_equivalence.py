"""Proposition 1: equivalent settings are one trajectory of W_LoRA, in float64."""

import pytest
import torch
from torch import nn

from loram.dynamics import Settings, equivalent

STEPS = 200


def trajectory(run: Settings, steps: int = STEPS) -> torch.Tensor:
    """W_LoRA (steps, n, m) of a small nonlinear regression with one LoRA layer."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n, m, r = 7, 9, 3
    W, x, y, head = draw(n, m) / 3, draw(40, m), draw(40, 2), draw(2, n)
    A = nn.Parameter(run.size_A * draw(r, m) / 3)
    B = nn.Parameter(run.size_B * draw(n, r) / 3)
    origin = run.scaling * (B @ A).detach()
    groups = [
        {"params": [A], "lr": run.lr_A, "weight_decay": run.decay_A},
        {"params": [B], "lr": run.rate_B, "weight_decay": run.decay_B},
    ]
    if run.optimizer in ("adam", "adamw"):
        groups[0]["eps"], groups[1]["eps"] = run.eps_A, run.eps_B
        made = torch.optim.Adam if run.optimizer == "adam" else torch.optim.AdamW
        optimizer = made(groups)
    else:
        optimizer = torch.optim.SGD(groups, momentum=0.9 if run.optimizer == "momentum" else 0.0)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        update = run.scaling * (B @ A) - origin
        loss = (torch.tanh(x @ (W + update).T) @ head.T - y).square().mean()
        loss.backward()
        optimizer.step()
        seen.append((run.scaling * (B @ A) - origin).detach())
    return torch.stack(seen)


def apart(one: Settings, other: Settings) -> float:
    a, b = trajectory(one), trajectory(other)
    return float((a - b).norm() / b.norm())


RATES = {"sgd": 5e-3, "momentum": 1e-3, "adam": 3e-3, "adamw": 3e-3}
SPLITS = [(1.0, 4.0), (4.0, 1.0), (2.0, 2.0), (0.5, 3.0), (1.7, 0.2)]


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("size_B", [0.0, 1.0])
def test_the_trajectory_is_the_same(optimizer, split, decay, size_B):
    run = Settings(
        scaling=4.0,
        size_B=size_B,
        lr_A=RATES[optimizer],
        lr_B=2 * RATES[optimizer],
        optimizer=optimizer,
        eps_A=1e-4,  # large enough to be seen
        eps_B=1e-4,
        decay_A=decay,
        decay_B=decay,
    )
    other = equivalent(run, *split)
    assert other.scaling == pytest.approx(4.0 / (split[0] * split[1]))
    assert apart(other, run) <= 1e-9


@pytest.mark.parametrize("optimizer", RATES)
def test_leaving_out_one_rule_is_visible(optimizer):
    run = Settings(
        scaling=4.0,
        lr_A=RATES[optimizer],
        optimizer=optimizer,
        eps_A=1e-3,
        eps_B=1e-3,
        decay_A=0.1,
        decay_B=0.1,
    )
    other = equivalent(run, 2.0, 2.0)
    names = ["lr_A", "lr_B", "decay_A", "decay_B", "scaling", "size_A"]
    if optimizer in ("adam", "adamw"):
        names += ["eps_A", "eps_B"]
    for name in names:
        kept = {field: getattr(other, field) for field in Settings.__dataclass_fields__}
        kept[name] = getattr(run, name) if name != "lr_B" else run.rate_B
        assert apart(Settings(**kept), run) > 1e-4, name


def test_rslora_and_lora_plus_are_one_run_under_adam():
    """s = √r = 4 at one rate is s = 1 with η_B = 4η_A, B starting at zero (PAPER's Table 1)."""
    rslora = Settings(scaling=4.0, size_B=0.0, lr_A=2e-4, eps_A=1e-8, eps_B=1e-8)
    plus = equivalent(rslora, 1.0, 4.0)
    assert (plus.scaling, plus.lr_A, plus.lr_B, plus.size_A) == (1.0, 2e-4, 8e-4, 1.0)
    assert (plus.eps_A, plus.eps_B) == (1e-8, 0.25e-8)
    assert apart(plus, rslora) <= 1e-9


def test_clipping_by_the_global_norm_breaks_it():
    """∇A and ∇B change by 1/α each, so their joint norm is another one."""
    run = Settings(scaling=4.0, optimizer="sgd", lr_A=1e-3)
    other = equivalent(run, 4.0, 1.0)
    grads = []
    for each in (run, other):
        A = torch.full((2, 3), each.size_A, dtype=torch.float64, requires_grad=True)
        B = torch.full((4, 2), each.size_B, dtype=torch.float64, requires_grad=True)
        (each.scaling * (B @ A)).square().sum().backward()
        grads.append(torch.cat([A.grad.flatten(), B.grad.flatten()]).norm())
    assert not torch.isclose(*grads)


@pytest.mark.parametrize("split", [(0.0, 1.0), (1.0, -2.0), (float("nan"), 1.0)])
def test_a_part_must_be_positive(split):
    with pytest.raises(ValueError, match="expected α_A, α_B > 0"):
        equivalent(Settings(), *split)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="unknown optimizer 'lion'"):
        Settings(optimizer="lion")
    with pytest.raises(ValueError, match="finite learning rates > 0"):
        Settings(lr_A=0)
    with pytest.raises(ValueError, match="finite scaling"):
        Settings(scaling=float("inf"))
    with pytest.raises(ValueError, match="ε and weight decay finite and ≥ 0"):
        Settings(eps_B=-1e-8)
