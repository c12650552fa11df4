"""The two forms: both start at the pretrained model, and take the same path from there."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from small import (
    FORMS,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    relative,
    scramble,
    train,
)
from torch import Tensor, nn

import loram
from loram.bases import BASES

GAINS = ["log", "spectral", "0.3"]


# ---- where they start ----------------------------------------------------------------------------


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_deviation_form_starts_bit_identical_to_the_base(request, ids, family, basis, gain):
    base = request.getfixturevalue(family)()
    expected = logits(base, ids)
    make = lora_config if family == "llama" else gpt2_config
    model = get_peft_model(base, make(f"loram(basis={basis}, gain={gain}, seed=3)"))
    assert torch.equal(logits(model, ids), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("autocast_adapter_dtype", [True, False])
def test_deviation_form_starts_bit_identical_in_every_dtype(
    request, ids, family, dtype, autocast_adapter_dtype
):
    base = request.getfixturevalue(family)(dtype=dtype)
    expected = logits(base, ids)
    make = lora_config if family == "llama" else gpt2_config
    model = get_peft_model(base, make(), autocast_adapter_dtype=autocast_adapter_dtype)
    assert torch.equal(logits(model, ids), expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-7), (torch.bfloat16, 0.02)]
)
def test_residual_form_starts_at_the_base_to_rounding(request, ids, family, dtype, bound):
    """float64: HF computes norms in float32, so two roads of float64 differ by 1e-8."""
    base = request.getfixturevalue(family)(dtype=dtype)
    expected = logits(base, ids)
    make = lora_config if family == "llama" else gpt2_config
    model = get_peft_model(base, make("loram_residual"))
    assert relative(logits(model, ids), expected) < bound


@pytest.mark.parametrize("autocast_adapter_dtype", [True, False])
def test_residual_form_in_bfloat16_loses_no_more_than_the_weights_rounding(
    llama, autocast_adapter_dtype
):
    base = llama(dtype=torch.bfloat16)
    weight = base.model.layers[0].mlp.up_proj.weight
    W = weight.detach().clone()
    config = lora_config("loram_residual", target_modules=["up_proj"])
    model = get_peft_model(base, config, autocast_adapter_dtype=autocast_adapter_dtype)
    layer = lora_layers(model)[0]
    A, B = (factor["default"].weight.double() for factor in (layer.lora_A, layer.lora_B))
    assert relative(weight.double() + B @ A, W) < 2.0**-8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_both_forms_learn(request, ids, form, dropout, family):
    base = request.getfixturevalue(family)()
    make = lora_config if family == "llama" else gpt2_config
    model = get_peft_model(base, make(form, lora_dropout=dropout))
    before = model.eval()(input_ids=ids, labels=ids).loss
    train(model, ids, steps=10, lr=0.1)
    assert model(input_ids=ids, labels=ids).loss < 0.95 * before


@pytest.mark.parametrize("form", FORMS)
def test_dropout_does_nothing_in_eval_mode(llama, ids, form):
    outputs = []
    for dropout in (0.0, 0.5):
        model = get_peft_model(llama(), lora_config(form, lora_dropout=dropout))
        scramble(model, "default")
        outputs.append(logits(model, ids))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("form", FORMS)
def test_dropout_of_the_deviation_form_drops_only_the_update(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form, lora_dropout=0.5))
    model.train()
    with torch.no_grad():
        noisy = model(input_ids=ids).logits
    with torch.no_grad(), model.disable_adapter():
        base = model(input_ids=ids).logits
    assert torch.equal(noisy, base) == (form == "loram")


# ---- the product ν[sB⁰A⁰] and the scaling --------------------------------------------------------


@pytest.mark.parametrize("use_rslora", [False, True])
def test_beta_ignores_the_scaling_and_the_residual_form_takes_out_s_times_the_product(
    llama, use_rslora
):
    settings = {"r": 4, "lora_alpha": 8, "use_rslora": use_rslora, "target_modules": ["up_proj"]}
    base = llama().double()
    W = base.model.layers[0].mlp.up_proj.weight.detach().clone()
    model = get_peft_model(base, LoraConfig(**settings, init_lora_weights="loram_residual"))
    layer = lora_layers(model)[0]
    s = 8 / math.sqrt(4) if use_rslora else 8 / 4
    B0, A0, beta = loram.factors(W, 4)
    torch.testing.assert_close(layer.get_base_layer().weight.detach(), W - s * B0 @ A0)
    torch.testing.assert_close(layer.lora_A["default"].weight.detach(), A0)
    torch.testing.assert_close(layer.lora_B["default"].weight.detach(), B0)
    assert layer.lora_basis["default"].beta == beta


# ---- the path: float64, against a hand-written absolute form -------------------------------------


class CleanLM(nn.Module):
    """A Llama-like model whose norms, rotary, softmax and cross-entropy run in the weights' dtype.

    Transformers' Llama computes those in float32 whatever the dtype.
    """

    def __init__(self, vocabulary: int = 40, width: int = 24, layers: int = 2, heads: int = 2):
        super().__init__()
        self.heads, self.width = heads, width
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                setattr(block, name, nn.Linear(width, width, bias=False))
            block.gate_proj = nn.Linear(width, 2 * width, bias=False)
            block.up_proj = nn.Linear(width, 2 * width, bias=False)
            block.down_proj = nn.Linear(2 * width, width, bias=False)
            self.blocks.append(block)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        """The cross-entropy of the next token."""
        x = self.embed(ids)
        for block in self.blocks:
            x = x + self._attend(block, _norm(x))
            h = _norm(x)
            x = x + block.down_proj(F.silu(block.gate_proj(h)) * block.up_proj(h))
        scores = self.head(_norm(x))[:, :-1]
        return F.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())

    def _attend(self, block: nn.Module, h: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)

        q, k, v = split(block.q_proj(h)), split(block.k_proj(h)), split(block.v_proj(h))
        q, k = _rotate(q), _rotate(k)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        return block.o_proj(mixed.transpose(1, 2).flatten(2))


def _norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _rotate(x: Tensor) -> Tensor:
    length, half = x.shape[-2], x.shape[-1] // 2
    rate = 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(length, dtype=x.dtype)[:, None] * rate
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


class AbsoluteLinear(nn.Module):
    """Algorithm 1 as the paper writes it: (W − sB⁰A⁰)x + sBAx, in plain autograd."""

    def __init__(self, W: Tensor, r: int, s: float):
        super().__init__()
        B0, A0, _ = loram.factors(W, r)
        self.residual, self.s = W - s * B0 @ A0, s
        self.A, self.B = nn.Parameter(A0), nn.Parameter(B0)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.residual.T + self.s * (x @ self.A.T) @ self.B.T


def absolute(model: CleanLM, targets: list[str], r: int, s: float) -> CleanLM:
    model.requires_grad_(False)
    for block in model.blocks:
        for name in targets:
            setattr(block, name, AbsoluteLinear(getattr(block, name).weight.detach(), r, s))
    return model


def losses(model: nn.Module, ids: Tensor, optimizer: Callable[..., torch.optim.Optimizer]):
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in parameters} == {torch.float64}
    opt, curve = optimizer(parameters), []
    for _ in range(50):
        opt.zero_grad()
        loss = model(ids)
        loss.backward()
        opt.step()
        curve.append(loss.item())
    return torch.tensor(curve, dtype=torch.float64)


# Rates at which the loss falls steadily: where it oscillates, rounding grows a thousandfold.
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.0),
}


@pytest.mark.parametrize("alpha", [4, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_forms_and_the_papers_algorithm_train_alike_in_float64(optimizer, alpha):
    ids = torch.randint(0, 40, (4, 9))
    base = CleanLM()
    targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    oracle = losses(
        absolute(copy.deepcopy(base), targets, 4, alpha / 4), ids, OPTIMIZERS[optimizer]
    )
    assert oracle[-1] < 0.95 * oracle[0]
    for form in FORMS:
        config = lora_config(form, target_modules=targets, lora_alpha=alpha)
        curve = losses(get_peft_model(copy.deepcopy(base), config), ids, OPTIMIZERS[optimizer])
        torch.testing.assert_close(curve, oracle, rtol=1e-12, atol=0)


def test_both_forms_train_alike_on_stock_llama_up_to_its_float32_parts(llama, ids, record_property):
    curves = []
    for form in FORMS:
        model = get_peft_model(llama(dtype=torch.float64), lora_config(form))
        model.forward = lambda x, forward=model.forward: forward(input_ids=x, labels=x).loss
        curves.append(losses(model, ids, OPTIMIZERS["adamw"]))
    difference = float(((curves[0] - curves[1]) / curves[0]).abs().max())
    record_property("relative loss difference", difference)
    assert difference < 1e-3


# ---- with what training does around them ---------------------------------------------------------


@pytest.mark.filterwarnings(  # transformers 5.23 renames it; PEFT and users call the old name
    "ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(llama, ids, form, use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = get_peft_model(llama(), lora_config(form)).train()
        scramble(model, "default")
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_computes_in_bfloat16_and_keeps_float32_gradients(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form)).train()
    scramble(model, "default")
    model(input_ids=ids, labels=ids).loss.backward()
    exact = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32
            assert relative(parameter.grad, exact[name]) < 0.1, name


@pytest.mark.parametrize("form", FORMS)
def test_a_first_forward_in_inference_mode_does_not_stop_training(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form))
    with torch.inference_mode():
        model(input_ids=ids)
    train(model, ids, steps=1)
    copy.deepcopy(model)


@pytest.mark.parametrize("form", FORMS)
def test_a_hook_on_the_base_layer_may_keep_its_output(form):
    """As with PEFT's own LoRA: what the frozen layer gave out is not written over later."""
    base = nn.Sequential(nn.Linear(8, 6))
    model = get_peft_model(base, lora_config(form, target_modules=["0"]))
    scramble(model, "default")
    frozen = lora_layers(model)[0].get_base_layer()
    x, kept = torch.randn(3, 8), []
    expected = F.linear(x, frozen.weight, frozen.bias)
    frozen.register_forward_hook(lambda module, args, output: kept.append(output))
    model(x)
    assert torch.equal(kept[0], expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_hook_on_the_base_layer_may_change_its_output(llama, ids, form):
    base = llama()
    base.model.layers[1].mlp.up_proj.register_forward_hook(lambda module, args, y: y.tanh())
    model = get_peft_model(base, lora_config(form, target_modules=["down_proj", "up_proj"]))
    train(model, ids, steps=1)


@pytest.mark.filterwarnings(  # dynamo asks every intermediate tensor for its .grad
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning"
)
@pytest.mark.parametrize("warm", [True, False])
def test_compiled_layer_equals_the_eager_one(warm):
    """Cold: the first forward pass, which draws the basis, is the compiled one."""
    config = lora_config(target_modules=["0", "2"])
    model = get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8)), config)
    scramble(model, "default")
    x = torch.randn(5, 8)
    expected = copy.deepcopy(model)(x)
    if warm:
        model(x)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, expected)
    compiled.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
