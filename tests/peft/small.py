"""What the PEFT tests share: configs, a few steps of training, and pictures of a model's state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

import loram  # noqa: F401 - registers the strings

LLAMA_TARGETS = ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj"]
GPT2_TARGETS = ["c_attn", "c_proj", "c_fc"]
FORMS = ["loram", "loram_residual"]


def lora_config(init: Any = "loram", **settings: Any) -> LoraConfig:
    """Rank 4, s = 1, on most projections of the tiny Llama unless told otherwise."""
    rank = settings.pop("r", 4)
    defaults = {"r": rank, "lora_alpha": rank, "target_modules": LLAMA_TARGETS}
    return LoraConfig(**(defaults | {"init_lora_weights": init} | settings))


def gpt2_config(init: Any = "loram", **settings: Any) -> LoraConfig:
    return lora_config(init, target_modules=GPT2_TARGETS, fan_in_fan_out=True, **settings)


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor, **kwargs: Any) -> Tensor:
    """In eval mode; the model's mode is put back."""
    training = model.training
    model.eval()
    out = model(input_ids=ids, **kwargs).logits
    model.train(training)
    return out


def train(model: nn.Module, ids: Tensor, *, steps: int = 3, lr: float = 0.3) -> None:
    """A few steps of SGD on whatever is trainable, in train mode; eval mode afterwards."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()


def trained(base: nn.Module, config: LoraConfig, ids: Tensor, **kwargs: Any) -> PeftModel:
    model = get_peft_model(base, config)
    train(model, ids, **kwargs)
    return model


def scramble(model: nn.Module, adapter: str, seed: int = 0, scale: float = 0.05) -> None:
    """Moves the adapter's factors at random, as training would, without training."""
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model, adapter):
        for weight in (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight):
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.data += (scale * noise).to(weight)


def lora_layers(model: nn.Module, adapter: str = "default") -> list[Any]:
    return [m for m in model.modules() if isinstance(m, LoraLayer) and adapter in m.r]


def relative(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_same_state(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit, NaN included."""
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


@contextmanager
def nothing_changes(model: nn.Module) -> Iterator[None]:
    """Asserts that the block leaves the model as it is: its modules, values, and what trains."""
    before, modules = state(model), [(n, type(m)) for n, m in model.named_modules()]
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    try:
        yield
    finally:
        assert [(n, type(m)) for n, m in model.named_modules()] == modules
        assert [n for n, p in model.named_parameters() if p.requires_grad] == trainable
        assert_same_state(state(model), before)


@contextmanager
def base_stays(model: nn.Module) -> Iterator[None]:
    """Asserts that the parameters that `model` has now are bit-identical after the block.

    By object: PEFT renames parameters when it wraps a layer.
    """
    before = [(n, p, p.detach().clone()) for n, p in model.named_parameters()]
    yield
    for name, now, then in before:
        assert torch.equal(now, then), name
