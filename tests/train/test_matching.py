"""Matched rates from where each method would start on the model."""

import json
import math

import pytest
import torch
from pydantic import ValidationError
from tiny import tiny_settings

from loram.dynamics import adam
from loram.peft import LoramError
from loram.train.matching import layer_starts, matched_rates
from loram.train.run import run


@pytest.fixture
def reference(tiny_model, sums):
    return tiny_settings(tiny_model, sums, method="lora", lr=2e-4)


def mean_update(layers, lr, steps, *, ratio=1.0, p=1.0):
    """log ν[W_LoRA], mean over layers, at a constant rate."""
    moved = adam.drift([lr] * steps, persistence=p)
    return sum(math.log(adam.update(layer, moved, ratio=ratio)) for layer in layers) / len(layers)


def test_the_rates_give_equal_predicted_updates(reference):
    found = matched_rates(reference, ["pissa", "loram", "loram(gain=0.05)", "lora+"], steps=50)
    assert [each.method for each in found] == [
        *("lora", "pissa", "loram", "loram(gain=0.05)", "lora+")
    ]
    assert found[0].times == 1
    target = mean_update(layer_starts(reference), 2e-4, 50)
    for each in found[1:]:
        settings = reference.model_copy(update={"method": each.method})
        ratio = settings.row.lr_ratio
        reached = mean_update(layer_starts(settings), each.lr, 50, ratio=ratio)
        assert reached == pytest.approx(target, abs=1e-9)
        assert each.times == each.lr / 2e-4
    # A larger start moves further at the same rate, so its matched rate is lower.
    by_name = {each.method: each for each in found}
    assert by_name["loram"].lr < by_name["loram(gain=0.05)"].lr < 2e-4
    assert by_name["lora+"].lr < 2e-4
    assert by_name["lora"].nu_B == 0 < by_name["loram"].nu_B


def test_a_method_matches_itself(reference):
    (_, same) = matched_rates(reference, ["lora"], steps=10)
    assert same.lr == pytest.approx(2e-4, rel=1e-9)


def test_full_fine_tuning_can_be_matched_but_not_take_a_rate(reference):
    full = reference.model_copy(update={"method": "full", "lr": 1e-5})
    first, second = matched_rates(full, ["loram"], steps=20)
    assert first.scaling is first.nu_A is None
    settings = reference.model_copy(update={"method": "loram"})
    moved = adam.drift([1e-5] * 20)
    assert mean_update(layer_starts(settings), second.lr, 20) == pytest.approx(math.log(moved))
    with pytest.raises(LoramError, match="full fine-tuning can be what is matched"):
        matched_rates(reference, ["full"], steps=20)


def test_methods_that_start_from_data_are_refused(reference):
    with pytest.raises(LoramError, match="starts from data"):
        matched_rates(reference, ["lora-ga"], steps=20)


def test_an_unknown_method(reference):
    with pytest.raises(ValidationError, match="lorra"):
        matched_rates(reference, ["lorra"], steps=20)


def test_nothing_is_left_of_the_draw(reference):
    """PEFT draws from the global generator; matching must not move it."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    layer_starts(reference)
    assert torch.equal(torch.rand(3), expected)


def test_runs_at_matched_rates_move_equally_far(tiny_model, sums, tmp_path):
    """Within the factor of 1.5 that is asked of the rule; at one and the same rate they do not."""
    options = {"lr": 1e-3, "steps": 12, "dropout": 0.0, "max_grad_norm": 0.0, "answers": 0}
    lora = tiny_settings(tiny_model, sums, method="lora", save_every=12, **options)

    def moved(method, lr):
        out = tmp_path / f"{method} {lr}"
        run(lora.model_copy(update={"method": method, "lr": lr}), out)
        last = json.loads((out / "magnitudes.jsonl").read_text().splitlines()[-1])
        return math.fsum(math.log(v[2]) for v in last["layers"].values()) / len(last["layers"])

    reference = moved("lora", lora.lr)
    for each in matched_rates(lora, ["pissa", "loram"], steps=12)[1:]:
        assert abs(moved(each.method, each.lr) - reference) < math.log(1.5)
    assert moved("pissa", lora.lr) - reference > math.log(2.5)
