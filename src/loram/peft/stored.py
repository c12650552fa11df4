"""A saved LoRA adapter, read from its file alone: no model, no base.

>>> config, tensors = read_lora("runs/x/adapter")
>>> left, right = stored_layer(stored_names(tensors)[0], config, tensors).update()
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from peft import LoraConfig, PeftConfig
from peft.utils.other import get_pattern_key
from peft.utils.save_and_load import load_peft_weights
from safetensors import SafetensorError
from torch import Tensor

from loram.peft.errors import LoramError
from loram.peft.factors import CONVOLUTION, EMBEDDING, EXPERTS, LINEAR, Place
from loram.peft.record import ATTRIBUTE, BasisRecord, check_beta
from loram.peft.spec import parse
from loram.product import Anchor, anchored

__all__ = ["ENDS", "RECORD", "StoredLayer", "read_lora", "stored_layer", "stored_names"]

RECORD = f".{ATTRIBUTE}.weight"
ENDS = (*LINEAR.keys(""), *EMBEDDING.keys(""), RECORD)
"""How the keys of a layer's tensors end."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One layer of a saved adapter; its factors in float64.

    Attributes:
        name: as in the file, with PEFT's prefix.
        place: how PEFT keeps the factors.
        A: (r, m), or (experts, r, m): the stored one, which of LoRAM's deviation form is dA.
        B: (n, r), or (experts, n, r).
        scaling: s.
        anchor: A⁰ and B⁰ of LoRAM; None for any other adapter.
        deviates: whether A and B are deviations from the anchor.
    """

    name: str
    place: Place
    A: Tensor
    B: Tensor
    scaling: float
    anchor: Anchor | None
    deviates: bool

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B themselves, LoRAM's basis included."""
        if self.anchor is None or not self.deviates:
            return self.A, self.B
        return self.A + self.anchor.A0, self.B + self.anchor.B0

    def update(self) -> tuple[Tensor, Tensor]:
        """W_LoRA as (n, k) @ (k, m), s in the left one: k = 2r for LoRAM, else r."""
        A, B = self.A, self.B
        if self.anchor is not None and not self.deviates:
            A, B = A - self.anchor.A0, B - self.anchor.B0
        left, right = anchored(B, A, self.anchor)
        return left * self.scaling, right


def read_lora(adapter: str | os.PathLike[str]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Config and tensors of a saved LoRA adapter, LoRAM's or any other, on the CPU.

    Args:
        adapter: folder, or hub id.

    Raises:
        LoramError: no adapter there, a damaged file, or not a LoRA adapter.
    """
    name = os.fspath(adapter)
    try:
        config = PeftConfig.from_pretrained(name)
        tensors = load_peft_weights(name, device="cpu")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LoramError(
            f"no readable adapter at {name!r}: expected adapter_config.json and "
            f"adapter_model.safetensors ({first})"
        ) from error
    if not isinstance(config, LoraConfig):
        raise LoramError(
            f"the adapter at {name!r} is not a LoRAM one, nor LoRA at all ({config.peft_type}): "
            "expected a LoraConfig"
        )
    return config, tensors


def stored_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers that a file holds factors of, in its order."""
    return [
        *dict.fromkeys(
            key.removesuffix(end) for key in tensors for end in ENDS if key.endswith(end)
        )
    ]


def stored_layer(name: str, config: LoraConfig, tensors: Mapping[str, Tensor]) -> StoredLayer:
    """A layer of a file that `read_lora` read.

    Raises:
        LoramError: a tensor that the layer needs is missing or damaged.
    """
    module = name.removeprefix("base_model.model.")
    ranks: dict[str, int] = config.rank_pattern or {}
    alphas: dict[str, float] = config.alpha_pattern or {}
    rank = ranks.get(get_pattern_key(list(ranks), module), config.r)
    alpha = alphas.get(get_pattern_key(list(alphas), module), config.lora_alpha)
    scaling = alpha / rank**0.5 if config.use_rslora else alpha / rank
    init = parse(config.init_lora_weights)
    kept = EMBEDDING if EMBEDDING.keys(name)[0] in tensors else LINEAR
    wanted = (*kept.keys(name), *([] if init is None else [name + RECORD]))
    lacking = [key for key in wanted if key not in tensors]
    if lacking:
        expected = ", ".join(kept.names) + ("" if init is None else f" and {ATTRIBUTE}")
        raise LoramError(
            f"{name}: expected {expected}, and the file lacks "
            f"{', '.join(key.removeprefix(name).split('.')[1] for key in lacking)}: it is "
            "damaged, or a tool has stripped it"
        )
    place = _place(name, rank, tensors, stacks=bool(config.target_parameters))
    A, B = (tensors[key].double() for key in place.keys(name))
    A, B = place.read(A, B, rank)
    anchor = None
    if init is not None:
        code = tensors[name + RECORD]
        check_beta(code, name)
        anchor = BasisRecord.read(code).anchor(B.shape[-2], A.shape[-1], A.shape[-2], like=A)
    deviates = init is not None and not init.is_residual
    return StoredLayer(name, place, A, B, scaling, anchor, deviates)


def _place(name: str, rank: int, tensors: Mapping[str, Tensor], *, stacks: bool) -> Place:
    """How a layer's factors are kept, by their names and shapes."""
    if EMBEDDING.keys(name)[0] in tensors:
        return EMBEDDING
    A = tensors[LINEAR.keys(name)[0]]
    if A.ndim > 2:
        return CONVOLUTION
    return EXPERTS if stacks and A.shape[0] > rank else LINEAR
