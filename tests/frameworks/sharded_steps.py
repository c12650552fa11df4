"""A few steps of training by Accelerate as one of several processes on the CPU.

    torchrun --nproc-per-node 2 sharded_steps.py FOLDER CASE…

FOLDER holds `base`, a saved model. A case is WRAP-FORM, such as `fsdp2-loram`; each leaves
`FOLDER/CASE` with the adapter and `losses.json`. All processes together see in every step the rows
that `alone` sees.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, GradientState, PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM

import loram  # noqa: F401 - registers the strings

WRAPS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp2": {},
    # As `accelerate config` proposes: only the first process reads the weights.
    "fsdp2ram": {"cpu_ram_efficient_loading": True},
    # Every linear layer is a unit of its own, lora_A and lora_B too.
    "fsdp2leaf": {"transformer_cls_names_to_wrap": ["LlamaDecoderLayer", "Linear"]},
}


def batches() -> Tensor:
    """Token ids (steps, rows, tokens)."""
    return torch.randint(0, 64, (4, 4, 9), generator=torch.Generator().manual_seed(1))


def start(folder: Path, form: str) -> tuple[PeftModel, torch.optim.Optimizer]:
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(folder / "base"),
        LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=["q_proj", "o_proj", "up_proj", "down_proj"],
            init_lora_weights=form,
        ),
    ).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)


def alone(folder: Path, form: str, out: Path) -> list[float]:
    """The losses of one process without any framework; the adapter goes to `out`."""
    model, optimizer = start(folder, form)
    losses = []
    for batch in batches():
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.save_pretrained(out)
    return losses


def accelerated(wrap: str) -> Accelerator:
    AcceleratorState._reset_state()
    GradientState._reset_state()
    os.environ["ACCELERATE_USE_FSDP"] = str(wrap != "ddp").lower()
    if wrap == "ddp":
        return Accelerator(cpu=True)
    settings = {
        "cpu_ram_efficient_loading": False,
        "transformer_cls_names_to_wrap": ["LlamaDecoderLayer"],
    }
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", **(settings | WRAPS[wrap])
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    # Accelerate 1.15 chooses FSDP on accelerators only, and without a word DDP on CPUs.
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return accelerator


def together(folder: Path, case: str) -> None:
    wrap, form = case.split("-")
    accelerator = accelerated(wrap)
    model, optimizer = accelerator.prepare(*start(folder, form))
    sharded = any(isinstance(p, DTensor) for p in model.parameters())
    assert sharded == (wrap != "ddp")
    losses = []
    for batch in batches().chunk(accelerator.num_processes, dim=1)[accelerator.process_index]:
        loss = model(input_ids=batch, labels=batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(accelerator.reduce(loss.detach(), "mean")))
    state = accelerator.get_state_dict(model)
    accelerator.unwrap_model(model).save_pretrained(
        folder / case, state_dict=state, is_main_process=accelerator.is_main_process
    )
    if accelerator.is_main_process:
        (folder / case / "losses.json").write_text(json.dumps(losses))
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    for case in sys.argv[2:]:
        together(Path(sys.argv[1]), case)
    torch.distributed.destroy_process_group()
