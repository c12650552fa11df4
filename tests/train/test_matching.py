"""Rates matched on a model, and what runs at those rates then move."""

import json
import math

import pytest
import torch
from tiny import tiny_settings

from loram.dynamics import matched_rate
from loram.dynamics.adam import drift, update
from loram.peft import LoramError
from loram.train.matching import layer_starts, matched_rates
from loram.train.run import run


def log_mean(values):
    return math.fsum(map(math.log, values)) / len(values)


def reference(tiny_model, sums, **changes):
    changes = {"method": "lora", "lr": 1e-3, "dropout": 0.0} | changes
    return tiny_settings(tiny_model, sums, **changes)


def test_the_predictions_are_equal(tiny_model, sums):
    base = reference(tiny_model, sums)
    rows = matched_rates(base, ["pissa", "loram(gain=0.1)"], steps=30, persistence=0.2)
    assert [row.method for row in rows] == ["lora", "pissa", "loram(gain=0.1)"]
    assert (rows[0].lr, rows[0].times) == (1e-3, 1.0)
    means = []
    for row in rows:
        layers = layer_starts(base.model_copy(update={"method": row.method}))
        D = drift([row.lr] * 30, persistence=0.2)
        means.append(log_mean([update(layer, D) for layer in layers]))
        assert row.scaling == 1.0
        assert row.times == pytest.approx(row.lr / 1e-3)
    assert means == pytest.approx([means[0]] * 3, rel=1e-9)


def test_again_is_the_same_and_leaves_the_generator(tiny_model, sums):
    base = reference(tiny_model, sums)
    state = torch.get_rng_state()
    first = matched_rates(base, ["lora", "olora"], steps=5)
    assert matched_rates(base, ["lora", "olora"], steps=5) == first
    assert first[1].times == pytest.approx(1.0)  # to itself
    assert torch.equal(torch.get_rng_state(), state)


def test_a_method_keeps_its_own_ratio(tiny_model, sums):
    base = reference(tiny_model, sums)
    plain, plus = matched_rates(base, ["lora+"], steps=2)
    ratio = base.model_copy(update={"method": "lora+"}).row.lr_ratio
    # B alone moves, to first order in D/σ_A², here of size 1e-4.
    assert plus.times == pytest.approx(1 / ratio, rel=1e-2)
    assert plain.nu_A == plus.nu_A


def test_full_fine_tuning_as_the_reference(tiny_model, sums):
    base = reference(tiny_model, sums, method="full")
    full, lora = matched_rates(base, ["lora"], steps=5)
    assert (full.lr, full.scaling, full.nu_A) == (1e-3, None, None)
    layers = layer_starts(base.model_copy(update={"method": "lora"}))
    assert lora.lr == pytest.approx(matched_rate(layers, None, 1e-3, steps=5))


def test_runs_at_the_matched_rate_move_equally_far(tiny_model, sums, tmp_path):
    """Within the issue's factor of 1.5, where at one rate they are far apart."""
    base = reference(tiny_model, sums, steps=12, save_every=12, max_grad_norm=0.0, answers=0)
    _, pissa, loram = matched_rates(base, ["pissa", "loram"], steps=12)

    def moved(settings):
        folder = tmp_path / f"{settings.method}-{settings.lr}"
        run(settings, folder)
        last = json.loads((folder / "magnitudes.jsonl").read_text().splitlines()[-1])
        return log_mean([values[2] for values in last["layers"].values()])

    of_lora = moved(base)
    for row in (pissa, loram):
        matched = moved(base.model_copy(update={"method": row.method, "lr": row.lr}))
        assert math.exp(abs(matched - of_lora)) <= 1.5
    assert math.exp(moved(base.model_copy(update={"method": "pissa"})) - of_lora) > 2.5


@pytest.mark.parametrize(
    ("methods", "message"),
    [(["full"], "full fine-tuning can be what is matched"), (["corda-kpm"], "starts from data")],
)
def test_methods_that_have_no_matched_rate(tiny_model, sums, methods, message):
    with pytest.raises(LoramError, match=message):
        matched_rates(reference(tiny_model, sums), methods, steps=5)


def test_a_method_that_is_none(tiny_model, sums):
    with pytest.raises(ValueError, match="lorum"):
        matched_rates(reference(tiny_model, sums), ["lorum"], steps=5)
