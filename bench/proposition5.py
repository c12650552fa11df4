"""Proposition 5 of arXiv 2507.06558 on real gradients: which orthonormal factors see most of them.

With AAᵀ = BᵀB = I, ‖∇A‖ = ‖sBᵀG‖ and ‖∇B‖ = ‖sGAᵀ‖ are largest for the first r singular vectors of
G = ∂L/∂W. Other choices stand beside them, and PEFT's LoRA-GA as it is.

python bench/proposition5.py [--model smollm2] [--rank 16] [--examples 8]
"""

import argparse
import statistics
import warnings
from collections.abc import Iterator

import torch
from peft import LoraConfig, LoraGAConfig, get_peft_model
from torch import Tensor

from loram import calibrate
from loram.bases import basis
from loram.bench.table import report
from loram.peft.calibration import gradient_of
from loram.peft.layers import lora_layers
from loram.tasks import load
from loram.train.encode import Collate, encode
from loram.train.model import load_pretrained

OURS = "first r of G (LoRA-One)"
Choice = tuple[Tensor, Tensor]  # B (n, r) and A (r, m)


def orthonormal(B: Tensor, A: Tensor) -> Choice:
    """Of the same directions."""
    return torch.linalg.qr(B)[0], torch.linalg.qr(A.T)[0].T


def choices(W: Tensor, G: Tensor, r: int) -> Iterator[tuple[str, Choice]]:
    """Every orthonormal choice tried, for a weight (n, m) and its gradient."""
    n, m = W.shape
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    yield OURS, (U[:, :r], Vh[:r])
    yield "r+1 … 2r of G (LoRA-GA's B)", (U[:, r : 2 * r], Vh[r : 2 * r])
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    yield "first r of W (PiSSA)", (U[:, :r], Vh[:r])
    yield "last r of W (MiLoRA)", (U[:, -r:], Vh[-r:])
    Q, R = torch.linalg.qr(W)
    yield "QR of W (OLoRA)", orthonormal(Q[:, :r], R[:r])
    for name in ("dst", "orthogonal"):
        phi = (basis(name, size, r, side=side, dtype=W.dtype) for side, size in enumerate((n, m)))
        left, right = phi
        yield f"basis {name} (LoRAM)", (left, right.T)
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(size, r, generator=generator, dtype=W.dtype) for size in (n, m))
    left, right = drawn
    yield "random orthonormal", orthonormal(left, right.T)


def norms(G: Tensor, choice: Choice) -> tuple[float, float]:
    """‖∇A‖ and ‖∇B‖ at s = 1."""
    B, A = choice
    return float((B.T @ G).norm()), float((G @ A.T).norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--examples", type=int, default=8)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    r = options.rank
    model, tokenizer = load_pretrained(options.model, torch.float32)
    data = load("wordmath", train_size=options.examples, held_out_size=1, seed=0)
    batch = Collate(tokenizer.pad_token_id)(encode(tokenizer, data.train, "auto", 512))
    config = LoraConfig(
        r=r,
        lora_alpha=r,
        target_modules="all-linear",
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(),
    )
    used = calibrate(model, config, [batch])  # by PEFT's preprocess_loraga
    read: dict[str, tuple[Tensor, Tensor]] = {
        name: (module.weight.detach().double(), gradient_of(module, "lora_ga").double())
        for name, module in model.named_modules()
        if hasattr(module, "_peft_loraga_grad")
    }
    torch.manual_seed(0)  # PEFT's LoRA-GA draws a randomised SVD
    adapted = get_peft_model(model, config)
    theirs = {
        name.removeprefix("base_model.model."): (
            layer.lora_B["default"].weight.detach().double(),
            layer.lora_A["default"].weight.detach().double(),
        )
        for name, layer in lora_layers(adapted, "default")
    }
    found: dict[str, list[tuple[float, float]]] = {}
    for name, (W, G) in read.items():
        for label, choice in choices(W, G, r):
            found.setdefault(label, []).append(norms(G, choice))
        found.setdefault("PEFT's LoRA-GA, directions", []).append(
            norms(G, orthonormal(*theirs[name]))
        )
        found.setdefault("PEFT's LoRA-GA, as it is", []).append(norms(G, theirs[name]))
    report(
        "proposition5",
        f"{options.model}, rank {r}, gradient of {used.examples} examples ({used.tokens} tokens), "
        f"{len(read)} layers: ‖∇A‖ and ‖∇B‖ over those of {OURS}",
        [row(label, each, found[OURS]) for label, each in found.items()],
    )


def row(
    label: str, each: list[tuple[float, float]], ours: list[tuple[float, float]]
) -> dict[str, object]:
    """Median and least over the layers, and where ours is the largest, or equal to rounding."""
    cells: dict[str, object] = {"factors": label}
    for side, symbol in enumerate(("∇A", "∇B")):
        ratios = [a[side] / b[side] for a, b in zip(each, ours, strict=True)]
        cells[f"{symbol} median"] = statistics.median(ratios)
        cells[f"{symbol} least"] = min(ratios)
        cells[f"ours ≥, {symbol}"] = sum(ratio <= 1 + 1e-5 for ratio in ratios)
        cells[f"‖{symbol}‖"] = statistics.median(a[side] for a in each)
    return cells


if __name__ == "__main__":
    main()
