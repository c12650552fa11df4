"""An adapter's update as plain LoRA, from its config and its tensors alone.

>>> plain = as_plain(config, tensors)               # rank 2r, the same update
>>> plain = as_plain(config, tensors, rank=16)      # the best rank-16 approximation
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.factors import Place
from loram.peft.stored import ENDS, stored_layer, stored_names

__all__ = ["Plain", "as_plain", "check_rank"]

_PROJECTION = ".base_layer.out_proj"  # how PEFT names that of an adapted MultiheadAttention


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain LoRA: one rank, one alpha, s folded into B.

    Attributes:
        config: PEFT's; its `r` is the rank of every layer, and `lora_alpha` is the same.
        tensors: by PEFT's names, with what is not of a layer as it was.
        layers: how many.
        error: ‖W_LoRA − plain‖_F / ‖W_LoRA‖_F over all layers; 0 where only rounding is lost.
        worst: (layer, its own error), the largest.
    """

    config: LoraConfig
    tensors: dict[str, Tensor]
    layers: int
    error: float
    worst: tuple[str, float]


def as_plain(
    config: LoraConfig,
    tensors: Mapping[str, Tensor],
    *,
    rank: int | None = None,
    dtype: torch.dtype | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Plain:
    """Turn an adapter into plain LoRA.

    Args:
        config: the adapter's.
        tensors: the adapter's, as PEFT saves them.
        rank: None for the exact one: 2r for LoRAM, r for plain LoRA. Else the best approximation
            of that rank by a QR-reduced SVD, O((n + m)r²) a layer.
        dtype: of the factors; the adapter's own by default.
        start: tensors of the untrained adapter, for a method that took sB⁰A⁰ out of the base and
            is not LoRAM: the update is then s[B | −B⁰]·[A ; A⁰].

    Raises:
        LoramError: a tensor is missing or damaged, or plain LoRA can't hold the adapter.
        ValueError: rank < 1.
    """
    check_rank(rank)
    products = dict(_products(config, tensors, start))
    total = lost = 0.0
    worst = ("", 0.0)
    for name, (place, left, right) in products.items():
        if rank is None:
            continue
        left, right, dropped, all_ = _truncate(left, right, rank)
        products[name] = place, left, right
        total, lost = total + all_, lost + dropped
        own = (dropped / all_) ** 0.5 if all_ > 0 else 0.0
        worst = max(worst, (name, own), key=lambda item: item[1])
    width = rank or max((left.shape[-1] for _, left, _ in products.values()), default=config.r)
    plain = {key: value for key, value in tensors.items() if not key.endswith(ENDS)}
    for name, (place, left, right) in products.items():
        missing = width - left.shape[-1]
        right = nn.functional.pad(right, (0, 0, 0, missing))
        left = nn.functional.pad(left, (0, missing))
        keys = place.keys(name)
        like = tensors[keys[0]], tensors[keys[1]]
        for key, factor in zip(keys, place.write(right, left, *like), strict=True):
            plain[key] = factor.to(dtype or like[0].dtype).contiguous()
    plain_config = replace(
        config,
        r=width,
        lora_alpha=width,
        rank_pattern={},
        alpha_pattern={},
        use_rslora=False,
        init_lora_weights=True,
        inference_mode=True,
    )
    error = (lost / total) ** 0.5 if total > 0 else 0.0
    return Plain(plain_config, plain, len(products), error, worst)


def check_rank(rank: int | None) -> None:
    """Nothing, if it is a rank.

    Raises:
        ValueError: it is not.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"expected rank ≥ 1, got {rank}")


def _products(
    config: LoraConfig, tensors: Mapping[str, Tensor], start: Mapping[str, Tensor] | None
) -> Iterator[tuple[str, tuple[Place, Tensor, Tensor]]]:
    """(layer, (place, left (n, k), right (k, m))) in float64, s in the left one."""
    if config.target_parameters and (config.rank_pattern or config.alpha_pattern):
        raise LoramError(
            "the adapter has target_parameters and rank or alpha patterns, and its file does not "
            f"say which parameter a factor belongs to: {_MERGE}"
        )
    for name in stored_names(tensors):
        if name.endswith(_PROJECTION):
            raise LoramError(
                f"{name.removesuffix(_PROJECTION)}: PEFT 0.21 applies twice the update of a plain "
                f"LoRA to the output projection of a MultiheadAttention: {_MERGE}"
            )
        layer = stored_layer(name, config, tensors)
        left, right = layer.update()
        if start is not None:
            left0, right0 = stored_layer(name, config, start).update()
            left, right = torch.cat([left, -left0], -1), torch.cat([right, right0], -2)
        yield name, (layer.place, left, right)


_MERGE = "write full weights with --merge (or `export_merged`)"


def _truncate(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, float, float]:
    """Best rank-`rank` factors of left @ right, and ‖·‖² of what is dropped and of all."""
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.mT)
    u, sigma, vh = torch.linalg.svd(r_left @ r_right.mT)
    k = min(rank, sigma.shape[-1])
    root = sigma[..., :k].sqrt()
    squares = sigma.square()
    return (
        q_left @ (u[..., :, :k] * root[..., None, :]),
        (root[..., :, None] * vh[..., :k, :]) @ q_right.mT,
        float(squares[..., k:].sum()),
        float(squares.sum()),
    )
