"""Parameters in other dtypes, and `torch.compile` of a whole model, in both forms."""

import copy
import shutil

import pytest
import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.helpers import rescale_adapter_scale
from small import FORMS, logits, lora_config, lora_layers, relative, scramble, train
from torch import nn

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", HALVES)
def test_factors_in_the_base_dtype_train_in_it(llama, ids, form, dtype):
    """`autocast_adapter_dtype=False`: what trains, its gradients and the logits are all in it."""
    base = llama(dtype=dtype)
    plain = logits(base, ids)
    model = get_peft_model(base, lora_config(form), autocast_adapter_dtype=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {dtype}
    if form == "loram":
        assert torch.equal(logits(model, ids), plain)
    else:
        assert relative(logits(model, ids), plain) < 0.05
    model.train()
    optimizer = torch.optim.SGD(trained, lr=0.3)  # Adam's ε is zero in float16
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        assert {p.grad.dtype for p in trained} == {dtype}
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def moved(base, form, dtype, steps=60):
    """Mean square that A and B have moved in 60 steps of 2e-5 on a fixed gradient's sign."""
    autocast = dtype == torch.float32
    config = lora_config(form, target_modules=["0"], r=8)
    model = get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=autocast)
    (layer,) = lora_layers(model)
    factors = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    start = [f.detach().double() for f in factors]
    optimizer = torch.optim.AdamW(factors, lr=2e-5, weight_decay=0.0)
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).float().square().mean().backward()
        optimizer.step()
    return [
        float((f.detach().double() - s).square().mean())
        for f, s in zip(factors, start, strict=True)
    ]


def test_bfloat16_deviations_keep_moving_at_a_rate_at_which_absolute_factors_stall():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(96, 80, bias=False)).bfloat16()
    reference = moved(base, "loram", torch.float32)
    deviation = moved(base, "loram", torch.bfloat16)
    absolute = moved(base, "loram_residual", torch.bfloat16)
    for got, stalled, wanted in zip(deviation, absolute, reference, strict=True):
        assert 0.8 < got / wanted < 1.25
        assert stalled / wanted < 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "cast",
    [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16)],
    ids=["half", "bfloat16", "to"],
)
def test_model_cast_after_training_still_computes_its_update(llama, ids, form, cast):
    model = get_peft_model(llama(), lora_config(form))
    train(model, ids)
    expected, base = logits(model, ids), logits(llama(), ids)
    cast(model)
    dtypes = {p.dtype for p in model.parameters()}
    assert len(dtypes) == 1
    for layer in lora_layers(model):
        assert layer.lora_basis["default"].weight.dtype == torch.int64
    assert relative(expected, base) > 0.2
    assert relative(logits(model, ids), expected) < 0.05


@pytest.mark.parametrize("form", FORMS)
def test_model_cast_to_float64_computes_in_it(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form))
    scramble(model, "default")
    expected = logits(model, ids)
    model.double()
    out = logits(model, ids)
    assert out.dtype == torch.float64
    assert relative(out, expected) < 1e-5
    train(model, ids, steps=1)


# ---- torch.compile -------------------------------------------------------------------------------

compiling = pytest.mark.filterwarnings(  # dynamo asks every intermediate tensor for its .grad
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning"
)


def check_compiled(model, x, backend, **kwargs):
    """Output and gradients of a compiled model without a graph break equal the eager ones."""
    torch.compiler.reset()
    results = []
    for forward in (model, torch.compile(model, fullgraph=True, backend=backend)):
        out = forward(x, **kwargs)
        out = getattr(out, "logits", out)
        out.float().square().sum().backward()
        results.append([out.detach()] + [p.grad for p in model.parameters() if p.requires_grad])
        model.zero_grad()
    assert len(results[0]) == 1 + 2 * len(lora_layers(model))
    for wanted, got in zip(*results, strict=True):
        assert got.dtype == wanted.dtype
        assert relative(got, wanted) < (1e-5 if out.dtype == torch.float32 else 0.1)


@compiling
@pytest.mark.parametrize(
    ("form", "dtype"),
    [("loram", torch.float32), ("loram", torch.bfloat16), ("loram_residual", torch.float32)],
)
def test_whole_model_is_one_graph_that_computes_what_it_does(llama, ids, form, dtype):
    model = get_peft_model(llama(dtype=dtype), lora_config(form))
    scramble(model, "default")
    check_compiled(model, ids, "aot_eager", use_cache=False)


@compiling
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler here",
)
@pytest.mark.parametrize("form", FORMS)
def test_layers_compile_to_native_code_that_computes_what_they_do(form):
    base = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8))
    model = get_peft_model(base, lora_config(form, target_modules=["0", "2"]))
    scramble(model, "default")
    check_compiled(model, torch.randn(5, 8), "inductor")


@compiling
def test_compiled_model_sees_a_rescaled_and_a_reloaded_adapter():
    """β is read from the buffer at every call: no value of it is baked into the graph."""
    base = nn.Sequential(nn.Linear(8, 6))
    model, other = (
        get_peft_model(copy.deepcopy(base), lora_config(init, target_modules=["0"]))
        for init in ("loram", "loram(gain=0.3)")
    )
    for seed, each in enumerate((model, other)):
        scramble(each, "default", seed)
    x = torch.randn(5, 8)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        assert relative(compiled(x), other(x)) > 1e-3
        set_peft_model_state_dict(model, get_peft_model_state_dict(other))
        torch.testing.assert_close(compiled(x), other(x))
        with rescale_adapter_scale(model, 0.5), rescale_adapter_scale(other, 0.5):
            torch.testing.assert_close(compiled(x), other(x))
