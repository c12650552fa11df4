"""Intruder dimensions where it is known what intrudes."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

import loram  # noqa: F401 - registers
from loram.probe import MagnitudeProbe, intruders, layer_intruders


def weight(n=20, m=16):
    """With a clear spectrum, 8, 7.5, …, and its singular vectors."""
    torch.manual_seed(0)
    U = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(m, m, dtype=torch.float64)).Q
    sigma = 8 - 0.5 * torch.arange(m, dtype=torch.float64)
    return U[:, :m] * sigma @ V.T, U, V


def test_no_update_and_a_scaled_weight_have_no_intruder():
    W, _, _ = weight()
    for update in (torch.zeros_like(W), 0.3 * W):
        found = layer_intruders(W, update, k=5)
        assert found.intruding == 0
        assert found.cosines == pytest.approx([1.0] * 5)


def test_a_strong_new_direction_intrudes():
    """Of W's left vectors, the mean of all sixteen has cosine ¼ with each."""
    W, U, V = weight()
    new = U[:, :16].mean(1, keepdim=True) * 4
    found = layer_intruders(W, 1e4 * new @ V[:, :1].T, k=3, epsilon=0.5)
    assert found.intruding >= 1
    assert found.cosines[0] == pytest.approx(0.25, abs=1e-3)
    outside = layer_intruders(W, 1e4 * U[:, 17:18] @ V[:, :1].T, k=1)
    assert outside.intruding == 1
    assert outside.cosines[0] == pytest.approx(0, abs=1e-2)


def test_a_direction_that_was_there_does_not_intrude():
    W, U, V = weight()
    assert layer_intruders(W, 100 * U[:, 9:10] @ V[:, 9:10].T, k=10).intruding == 0


@pytest.mark.parametrize("init", [True, "pissa", "loram", "loram_residual"])
def test_layers_of_a_model_are_judged_against_the_pretrained_weight(llama, init):
    base = llama()
    pretrained = base.model.layers[0].self_attn.q_proj.weight.detach().clone()
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj"], init_lora_weights=init)
    model = get_peft_model(base, config)
    probe = MagnitudeProbe(model)
    assert {each.intruding for each in intruders(probe, k=3, epsilon=0.99).values()} == {0}
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += torch.randn_like(p)
    found = intruders(probe, k=3)
    assert sum(each.intruding for each in found.values()) > 0
    name, W, update = next(probe.updates())
    torch.testing.assert_close(W, pretrained, rtol=1e-5, atol=1e-5)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    whole = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(W + update, whole.detach(), rtol=1e-4, atol=1e-4)
    assert found[name] == layer_intruders(W, update, k=3)


def test_bad_input_is_refused(llama):
    W = torch.eye(3)
    for args, message in [
        ((W, torch.zeros(3, 2), {}), r"got \(3, 3\) and \(3, 2\)"),
        ((W, W, {"k": 0}), "k=0"),
        ((W, W, {"epsilon": 0.0}), r"epsilon=0\.0"),
        ((W, W * torch.nan, {}), "training has diverged"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer_intruders(args[0], args[1], **args[2])
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="loram")
    probe = MagnitudeProbe(get_peft_model(llama(), config))
    with pytest.raises(ValueError, match="q_proj: expected k"):
        intruders(probe, k=0)
