"""A LoRAM adapter as plain LoRA, for software that has never heard of loram.

    >>> export_plain("runs/x/adapter", "plain")              # rank 2r, the same update
    >>> export_plain("runs/x/adapter", "small", rank=16)     # the best rank-16 approximation

W_LoRA = s [dB | B⁰]·[A⁰ + dA ; dA] is itself a product of rank 2r, so the export is exact to
rounding. Servers read one rank and one alpha: every layer is padded with zeros to one rank, s is
folded into B, and there are no patterns and no rsLoRA flag. Embeddings, convolutions and stacks of
experts keep PEFT's own shapes.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from loram.files import staged_folder
from loram.peft.errors import LoramError
from loram.peft.plain import as_plain, check_rank
from loram.peft.spec import parse
from loram.peft.stored import read_lora

__all__ = ["Exported", "export_merged", "export_plain", "free_folder", "read_adapter"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: folder.
        rank: of every layer.
        layers: how many.
        error: ‖W_LoRA − export‖_F / ‖W_LoRA‖_F over all layers; 0 for rank 2r, where only rounding
            is lost.
        worst: (layer, its own error), the largest.
        bytes: size of the weights file.
    """

    path: Path
    rank: int
    layers: int
    error: float
    worst: tuple[str, float]
    bytes: int


def read_adapter(adapter: str | os.PathLike[str]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Config and tensors of a saved LoRAM adapter, on the CPU.

    Args:
        adapter: folder, or hub id.

    Raises:
        LoramError: no adapter there, a damaged file, or an adapter that is not LoRAM's.
    """
    config, tensors = read_lora(adapter)
    if parse(config.init_lora_weights) is None:
        raise LoramError(
            f"the adapter at {os.fspath(adapter)!r} is not a LoRAM one (init "
            f"{config.init_lora_weights!r}): expected init_lora_weights to start with loram; it "
            "needs no export"
        )
    return config, tensors


def export_plain(
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    dtype: torch.dtype | None = None,
) -> Exported:
    """Write a LoRAM adapter, of either form, as plain LoRA.

    Args:
        adapter: folder or hub id of the LoRAM adapter.
        out: folder to write; must not exist, or be empty.
        rank: None for 2r, exact. Else the best approximation of that rank by a QR-reduced SVD,
            O((n + m)r²) a layer.
        dtype: of the written factors; the adapter's own by default, where float32 is the default
            of PEFT. Fewer bits than float32 lose some of the update.

    Raises:
        LoramError: no LoRAM adapter there, an unusable one, one that plain LoRA can't hold, or
            `out` is taken.
        ValueError: rank < 1.
    """
    check_rank(rank)
    target = free_folder(out)
    config, tensors = read_adapter(adapter)
    plain = as_plain(config, tensors, rank=rank, dtype=dtype)
    if not plain.layers:
        raise LoramError(f"the adapter at {os.fspath(adapter)!r} has no LoRA layer")
    size = _write(target, plain.config, plain.tensors)
    return Exported(target, plain.config.r, plain.layers, plain.error, plain.worst, size)


def export_merged(
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    base: nn.Module,
    tokenizer: Any = None,
) -> Path:
    """Write full weights: the base model with the adapter merged into it.

    Args:
        adapter: folder or hub id of the LoRAM adapter.
        out: folder to write; must not exist, or be empty.
        base: the pretrained model, which is changed. Merging rounds to its dtype.
        tokenizer: saved beside the weights, if given.

    Raises:
        LoramError: no LoRAM adapter there, or `out` is taken.
    """
    target = free_folder(out)
    read_adapter(adapter)
    merged: Any = PeftModel.from_pretrained(base, os.fspath(adapter)).merge_and_unload(
        safe_merge=True
    )
    with _staged(target) as folder:
        merged.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    return target


def free_folder(out: str | os.PathLike[str]) -> Path:
    """The folder to write, which must not exist, or be empty.

    Raises:
        LoramError: it is taken.
    """
    target = Path(out)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise LoramError(f"{target} exists already: name a new folder, or remove it first")
    return target


@contextmanager
def _staged(target: Path) -> Generator[Path]:
    try:
        with staged_folder(target) as folder:
            yield folder
    except OSError as error:
        raise LoramError(f"can't write {target} ({error}): name a new folder") from error


def _write(target: Path, config: LoraConfig, tensors: dict[str, Tensor]) -> int:
    with _staged(target) as folder:
        config.save_pretrained(str(folder))
        weights = folder / "adapter_model.safetensors"
        save_file(tensors, weights, metadata={"format": "pt"})
        size = weights.stat().st_size
    return size
