"""What a tensor's name says: whether LoRA would target it, its kind of layer, its depth.

Names are those of state dicts, `model.layers.3.self_attn.q_proj.weight`. The model is not built, so
this is a reading of habits, not of modules: 2-D weights that are not embeddings, norms or heads.
"""

import re

__all__ = ["depth_of", "is_target", "kind_of", "layer_of"]

_END = ".weight"
_EMBEDDING = re.compile(r"w[tp]e|shared|\w*embed\w*|relative_attention_bias")
_NORM_OR_HEAD = re.compile(r"\w*norm\w*|ln(_\w+|\d*)|lm_head|output_projection")
# Names that many layers of different roles share: the component before belongs to the kind.
_GENERIC = {"dense", "linear", "proj", "fc", "layer"}


def layer_of(name: str) -> str:
    """The module's name: without `.weight`, and without what wraps a weight that PEFT adapts."""
    return name.removesuffix(_END).replace(".base_layer", "").removeprefix("base_model.model.")


def is_target(name: str, shape: tuple[int, ...], *, everything: bool = False) -> bool:
    """Whether a tensor is the weight of a linear layer that LoRA goes on.

    Args:
        name: in the state dict.
        shape: of the tensor.
        everything: embeddings and heads too.
    """
    if len(shape) != 2 or not name.endswith(_END) or min(shape) == 0:
        return False
    parts = layer_of(name).lower().split(".")
    embeds = any(_EMBEDDING.fullmatch(part) for part in parts)
    return everything or not (embeds or _NORM_OR_HEAD.fullmatch(parts[-1]))


def kind_of(layer: str) -> str:
    """Kind of a layer by the last component of its name: `q_proj`, `down_proj`, `output.dense`."""
    parts = [part for part in layer.split(".") if not part.isdigit()]
    if not parts:
        return layer
    return ".".join(parts[-2:]) if parts[-1] in _GENERIC else parts[-1]


def depth_of(layer: str) -> int:
    """The first number in a layer's name, its block; 0 without one."""
    return next((int(part) for part in layer.split(".") if part.isdigit()), 0)
