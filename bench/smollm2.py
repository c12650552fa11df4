"""A SmolLM2 with an adapter, and its training step."""

from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

import loram  # noqa: F401 - registers
from loram.train.model import load_pretrained

BATCH, LENGTH = 4, 256


def training_step(
    init: bool | str, *, rank: int = 16, dtype: str = "bfloat16"
) -> tuple[Any, Callable[..., None]]:
    """The model, and a function that does one AdamW step on BATCH x LENGTH fixed tokens.

    With clear=False it drops the gradients at the start of a step, not at its end.
    """
    torch.manual_seed(0)
    ids = torch.randint(0, 49152, (BATCH, LENGTH))
    base, _ = load_pretrained("smollm2", getattr(torch, dtype))
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules="all-linear",
        init_lora_weights=init,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0)

    def step(*, clear: bool = True) -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        if clear:
            optimizer.zero_grad()

    return model, step
