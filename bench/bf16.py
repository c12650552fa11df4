"""Pure bfloat16: how far do LoRAM's two forms move when their parameters are bfloat16 too?

python bench/bf16.py [--model smollm2] [--rank 16] [--targets q_proj,v_proj] [--steps 1000]

The base is bfloat16 throughout. The deviation form with float32 adapters, PEFT's default, is the
reference; then both forms with bfloat16 ones, on the same tokens of the project's own problems. The
rows hold the losses, and ν[dA], ν[dB] also over the reference's. If torchao is installed, also the
deviation form under its AdamW, which rounds stochastically. Every row is printed as it comes.
"""

import argparse
import importlib.util
import json
import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

import loram  # noqa: F401 - registers
from loram.bench.table import keep, report
from loram.peft.layers import factor_weights, lora_layers
from loram.tasks import wordmath
from loram.train.model import load_pretrained

HELD_OUT = 32  # blocks
RECENT = 50  # steps whose mean is the training loss
REPORTED = (100, 300, 1000)  # steps


class Run(NamedTuple):
    """A form of LoRAM, the dtype of its parameters, and what trains them."""

    form: str
    dtype: torch.dtype
    optimizer: str = "AdamW"


def runs() -> Iterator[Run]:
    """The reference first."""
    yield Run("loram", torch.float32)
    yield Run("loram", torch.bfloat16)
    yield Run("loram_residual", torch.bfloat16)
    if importlib.util.find_spec("torchao"):
        yield Run("loram", torch.bfloat16, "AdamW, stochastic rounding")


def torchao_adamw(parameters: Any, **settings: Any) -> torch.optim.Optimizer:
    from torchao.optim import _AdamW

    return _AdamW(parameters, bf16_stochastic_round=True, **settings)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "AdamW, stochastic rounding": torchao_adamw,
}


def blocks(tokenizer: Any, split: wordmath.Split, count: int, length: int) -> Tensor:
    """(count, length) tokens: problems and worked answers, one after another."""
    problems = wordmath.generate(split, count * length // 100 + 32)
    text = tokenizer.eos_token.join(f"{p.question}\n{p.answer}" for p in problems)
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    if len(ids) < count * length:
        raise SystemExit(f"expected {count * length} tokens of {split}, got {len(ids)}")
    return torch.tensor(ids[: count * length]).view(count, length)


@torch.no_grad()
def held_out_loss(model: Any, ids: Tensor) -> float:
    return statistics.mean(model(input_ids=b, labels=b).loss.item() for b in ids.split(8))


def factors(model: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Copies of what trains: every A (or dA), every B (or dB), in float64."""
    pairs = [factor_weights(layer, "default") for _, layer in lora_layers(model, "default")]
    return tuple([w.detach().double() for w in side] for side in zip(*pairs, strict=True))


def moved(now: list[Tensor], start: list[Tensor]) -> float:
    """ν of the change, over the entries of all layers."""
    squares = sum(float((a - b).square().sum()) for a, b in zip(now, start, strict=True))
    return squares / sum(a.numel() for a in now)


def measure(run: Run, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A training run; a row at each reported step."""
    torch.manual_seed(0)
    base, tokenizer = load_pretrained(options.model, torch.bfloat16)
    train = blocks(tokenizer, "train", options.steps, options.length)
    held_out = blocks(tokenizer, "validation", HELD_OUT, options.length)
    targets = options.targets
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank,
        target_modules=targets if targets == "all-linear" else targets.split(","),
        init_lora_weights=run.form,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config, autocast_adapter_dtype=run.dtype == torch.float32)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {run.dtype}
    optimizer = OPTIMIZERS[run.optimizer](trained, lr=options.lr, weight_decay=0.0)
    start_A, start_B = factors(model)
    losses: list[float] = []
    for step, ids in enumerate(train, start=1):
        loss = model(input_ids=ids[None], labels=ids[None]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step in (*REPORTED, options.steps):
            A, B = factors(model)
            yield {
                "form": run.form,
                "parameters": str(run.dtype).removeprefix("torch."),
                "optimizer": run.optimizer,
                "step": step,
                "train loss": statistics.mean(losses[-RECENT:]),
                "held-out loss": held_out_loss(model, held_out),
                "ν[dA]": moved(A, start_A),
                "ν[dB]": moved(B, start_B),
                "largest |dA|": max(
                    float((a - b).abs().max()) for a, b in zip(A, start_A, strict=True)
                ),
            }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each ν also over the reference's at that step."""
    reference = {row["step"]: row for row in rows if row["parameters"] == "float32"}
    return [
        row | {f"{v}, ratio": row[v] / reference[row["step"]][v] for v in ("ν[dA]", "ν[dB]")}
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--length", type=int, default=32, help="tokens of a step")
    parser.add_argument("--lr", type=float, default=2e-5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    title = (
        f"{options.model} in bfloat16, r {options.rank} on {options.targets}, AdamW at lr "
        f"{options.lr:g}, 1x{options.length} tokens a step"
    )
    rows: list[dict[str, Any]] = []
    for run in runs():
        for row in measure(run, options):
            rows.append(row)
            keep("bf16", compared(rows))
            print(json.dumps(row, ensure_ascii=False), flush=True)
    report("bf16", title, compared(rows))


if __name__ == "__main__":
    main()
