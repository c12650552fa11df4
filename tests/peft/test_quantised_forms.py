"""The deviation form on quantised bases: how they are read, β, step 0 and gradients."""

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from quantised_bases import (
    BACKENDS,
    Backend,
    bases,
    betas_of,
    bnb4,
    each_backend,
    keep_layout,
    multiplied_by,
    plain,
    unquantised,
)
from small import (
    logits,
    lora_config,
    relative,
    scramble,
    train,
)
from torch import Tensor, nn

from loram.peft.kinds import KINDS
from loram.peft.layers import base_weight
from loram.schemes.loram import beta

pytest_plugins = ("quantised_fixtures",)

FOUR_BIT = each_backend(lambda backend: backend.kind == "bitsandbytes 4-bit")
EIGHT_BIT = each_backend(lambda backend: backend.name == "int8")


def gradients(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Of whatever trains, by name, with the model in the mode it is in."""
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_every_quantised_row_has_a_backend() -> None:
    rows = {kind.name for kind in KINDS if "quantise" in kind.merge or kind.name == "GPTQ"}
    assert rows == {backend.kind for backend in BACKENDS}


@each_backend()
def test_the_weight_is_read_as_the_layer_multiplies_by_it(backend: Backend, saved: Path) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    for name, base in bases(model).items():
        torch.testing.assert_close(
            base_weight(base).float(), multiplied_by(base), rtol=1e-6, atol=1e-6, msg=name
        )


@each_backend()
def test_beta_is_that_of_the_weight_to_half_the_error_of_the_quantisation(
    backend: Backend, saved: Path
) -> None:
    # ν[Ŵ] is within a factor (1 ± e)² of ν[W] for e = ‖Ŵ − W‖ / ‖W‖, and β ~ ν^¼.
    model = get_peft_model(backend.quantised(saved), lora_config())
    for (name, base), got in zip(bases(model).items(), betas_of(model), strict=True):
        W = plain(saved).get_submodule(name.removeprefix("base_model.model.")).weight
        quantised = multiplied_by(base)
        error = relative(quantised, W)
        assert 0 < error < backend.error
        assert got == pytest.approx(beta(quantised, 4), rel=1e-6)
        assert got == pytest.approx(beta(W, 4), rel=error / 2)


@each_backend()
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_step_0_is_the_base_bit_for_bit(
    backend: Backend, saved: Path, ids: Tensor, dropout: float
) -> None:
    base = backend.quantised(saved)
    before = logits(base, ids)
    model = get_peft_model(base, lora_config(lora_dropout=dropout))
    assert torch.equal(logits(model, ids), before)


@each_backend()
def test_gradients_are_those_of_the_dequantised_base_in_float64(
    backend: Backend, saved: Path, ids: Tensor
) -> None:
    base = backend.quantised(saved)
    oracle = get_peft_model(unquantised(base, saved), lora_config()).train()
    model = get_peft_model(base, lora_config()).train()
    for one in (model, oracle):
        scramble(one, "default")
    got, expected = gradients(model, ids), gradients(oracle, ids)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative(got[name], gradient) < 1e-4, name
    assert relative(logits(model.train(), ids), logits(oracle, ids)) < 0.05


@EIGHT_BIT
def test_gradients_of_8_bit_layers_in_eval_mode(backend: Backend, saved: Path, ids: Tensor) -> None:
    # Its product there, and on a GPU always, returns a view that may not be written into.
    base = backend.quantised(saved)
    oracle = get_peft_model(unquantised(base, saved), lora_config()).eval()
    model = get_peft_model(base, lora_config()).eval()
    got, expected = gradients(model, ids), gradients(oracle, ids)
    for name, gradient in expected.items():
        assert relative(got[name], gradient) < 0.1, name  # activations are 8-bit too


@FOUR_BIT
def test_a_bfloat16_model(backend: Backend, saved: Path, ids: Tensor) -> None:
    load = bnb4(backend.name.split("-")[0], double=True, dtype=torch.bfloat16)
    base = keep_layout(load(saved).eval())
    before = logits(base, ids)
    model = get_peft_model(base, lora_config())
    assert torch.equal(logits(model, ids), before)
    train(model, ids)
    assert logits(model, ids).dtype == torch.bfloat16
    assert relative(logits(model, ids), before) > 1e-2


@FOUR_BIT
def test_a_layer_that_is_not_quantised_yet(backend: Backend, saved: Path) -> None:
    import bitsandbytes as bnb

    W = torch.randn(48, 64)
    layer = bnb.nn.Linear4bit(64, 48, bias=False, quant_type=backend.name.split("-")[0])
    layer.weight.data = W.clone()
    assert torch.equal(base_weight(layer), W)
    layer.to("cpu")
    assert relative(base_weight(layer), W) < backend.error
