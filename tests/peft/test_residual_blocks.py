"""The residual form's rewriting of W by blocks of rows equals that of the whole at once."""

import pytest
import torch
from peft import get_peft_model
from small import gpt2_config, lora_config
from transformers.pytorch_utils import Conv1D

from loram.peft import residual

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def bound(W, left, right, dtype):
    """Of two ways to add a product in its own dtype and round to W's, entry by entry."""
    terms = W.double().abs() + left.double().abs() @ right.double().abs()
    rounded = torch.finfo(dtype).eps * (W.double() + left.double() @ right.double()).abs()
    return rounded + 8 * torch.finfo(left.dtype).eps * terms


def parts(n, m, r, dtype, seed=0):
    """W (n, m), and factors (n, r), (r, m) in float32, or in W's float64."""
    g = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    W = (0.02 * torch.randn(n, m, generator=g)).to(dtype)
    left, right = (torch.randn(*shape, generator=g, dtype=wide) for shape in ((n, r), (r, m)))
    return W, 0.05 * left, 0.05 * right


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 7, 16, 100])
def test_blocks_equal_the_whole_rounded_once(monkeypatch, dtype, rows):
    """37 rows: no block of 3, 7 or 16 rows divides them, 100 is all of them in one."""
    W, left, right = parts(37, 24, 5, dtype)
    whole = (W.to(left.dtype) + left @ right).to(dtype)
    monkeypatch.setattr(residual, "_ENTRIES", rows * 24 + 23)
    got = W.clone()
    residual._add(got, left, right)
    # The sums of a product may go in another order for another number of rows: in the wide dtype's
    # last digits, which seldom turn over a narrow one's.
    error = (got.double() - whole.double()).abs()
    assert (error <= bound(W, left, right, dtype)).all()
    if dtype in (torch.bfloat16, torch.float16):
        assert (error == 0).float().mean() > 0.99


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_are_the_sum_in_float64_to_rounding(monkeypatch, dtype):
    W, left, right = parts(33, 20, 4, dtype)
    exact, allowed = W.double() + left.double() @ right.double(), bound(W, left, right, dtype)
    monkeypatch.setattr(residual, "_ENTRIES", 4 * 20)
    residual._add(W, left, right)
    assert ((W.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_transposed_weight_is_written_by_the_rows_that_are_stored(monkeypatch, dtype):
    W, left, right = parts(30, 22, 4, dtype)
    stored = W.T.contiguous()
    straight = W.clone()
    monkeypatch.setattr(residual, "_ENTRIES", 5 * 30)
    residual._add(stored.T, left, right)
    residual._add(straight, left, right)
    spread = (stored.T.double() - straight.double()).abs()
    assert (spread <= bound(W, left, right, dtype)).all()
    assert not torch.equal(straight, W)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_started_by_blocks_is_the_one_started_at_once(request, monkeypatch, family, dtype):
    make = request.getfixturevalue(family)
    config = (lora_config if family == "llama" else gpt2_config)("loram_residual")
    changed = 0
    models = []
    for entries in (1 << 20, 100):  # 100: of the widths here, one to three rows a block
        monkeypatch.setattr(residual, "_ENTRIES", entries)
        models.append(get_peft_model(make(dtype=dtype), config))
    pretrained = dict(make(dtype=dtype).named_parameters())
    for (name, whole), blocks in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        spread = (whole.double() - blocks.double()).abs()
        assert (spread <= torch.finfo(dtype).eps * whole.double().abs() + 5e-7).all(), name
        before = pretrained.get(name.removeprefix("base_model.model.").replace(".base_layer", ""))
        changed += before is not None and not torch.equal(before, blocks)
    kinds = (torch.nn.Linear, Conv1D)
    targets = [m for m in models[1].modules() if isinstance(m, kinds) and residual.removed_from(m)]
    assert changed == len(targets) > 0


def test_giving_back_by_blocks_restores_the_weight_to_rounding(llama, monkeypatch):
    base = llama(dtype=torch.float32)
    W = base.model.layers[0].mlp.up_proj.weight.detach().clone()
    monkeypatch.setattr(residual, "_ENTRIES", 100)
    model = get_peft_model(base, lora_config("loram_residual", target_modules=["up_proj"]))
    restored = model.unload().model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(restored, W, rtol=0, atol=1e-6)
