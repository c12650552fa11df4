"""The pipelines that are trained: one row a family, of what differs between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from loram.vision.errors import VisionError

__all__ = ["FAMILIES", "Family", "check_size", "family_of"]

Texts = dict[str, Tensor]
"""What a prompt is to the denoiser, by name; the first axis is the prompt's."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of pipeline.

    Attributes:
        part: the pipeline's name for its denoiser, which gets the adapter.
        loss: flow matching, or the scheduler's own target (noise, or velocity).
        encode: (pipeline, prompts, tokens) → texts.
        predict: (denoiser, noisy latents (b, c, h, w), t (b,) of 0…1000, texts, side in pixels,
            guidance) → the prediction, of the latents' shape.
        step: what the sides of the latents must be a multiple of.
    """

    part: Literal["transformer", "unet"]
    loss: Literal["flow", "noise"]
    encode: Callable[[Any, Sequence[str], int], Texts]
    predict: Callable[[Any, Tensor, Tensor, Texts, int, float], Tensor]
    step: Callable[[Any], int]


def family_of(pipeline: Any) -> Family:
    """The row of a pipeline.

    Raises:
        VisionError: there is none.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise VisionError(f"no DreamBooth for a {name}: expected one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def check_size(pipeline: Any, family: Family, size: int) -> None:
    """Nothing, if the pipeline can take images of this size.

    Raises:
        VisionError: it can't; names the nearest sizes that it can.
    """
    denoiser = getattr(pipeline, family.part)
    unit = pipeline.vae_scale_factor * family.step(denoiser)
    if size % unit:
        near = sorted({max(unit, size // unit * unit), -(-size // unit) * unit})
        raise VisionError(
            f"{type(pipeline).__name__} can't take images of {size} pixels: expected a multiple of "
            f"{unit}, such as {' or '.join(map(str, near))}"
        )
    largest = getattr(denoiser.config, "pos_embed_max_size", None)
    if largest is not None and size // unit > largest:
        raise VisionError(
            f"{type(pipeline).__name__} can't take images of {size} pixels: its positions end at "
            f"{largest * unit}"
        )


# ---- FLUX ----------------------------------------------------------------------------------------


def _encode_flux(pipeline: Any, prompts: Sequence[str], length: int) -> Texts:
    texts, pooled, _ = pipeline.encode_prompt(list(prompts), None, max_sequence_length=length)
    return {"texts": texts, "pooled": pooled}


def _predict_flux(
    model: Any, noisy: Tensor, t: Tensor, texts: Texts, size: int, guidance: float
) -> Tensor:
    b, c, h, w = noisy.shape
    packed = noisy.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    where = torch.zeros(h // 2, w // 2, 3)
    where[..., 1] = torch.arange(h // 2)[:, None]
    where[..., 2] = torch.arange(w // 2)
    told = torch.full_like(t, guidance) if model.config.guidance_embeds else None
    out = model(
        hidden_states=packed.reshape(b, h // 2 * (w // 2), c * 4),
        timestep=t / 1000,
        guidance=told,
        pooled_projections=texts["pooled"],
        encoder_hidden_states=texts["texts"],
        txt_ids=noisy.new_zeros(texts["texts"].shape[1], 3),
        img_ids=where.reshape(-1, 3).to(noisy),
        return_dict=False,
    )[0]
    return out.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


# ---- Stable Diffusion 3 --------------------------------------------------------------------------


def _encode_sd3(pipeline: Any, prompts: Sequence[str], length: int) -> Texts:
    names = list(prompts)
    texts, _, pooled, _ = pipeline.encode_prompt(
        names, names, names, do_classifier_free_guidance=False, max_sequence_length=length
    )
    return {"texts": texts, "pooled": pooled}


def _predict_sd3(
    model: Any, noisy: Tensor, t: Tensor, texts: Texts, size: int, guidance: float
) -> Tensor:
    return model(
        hidden_states=noisy,
        timestep=t,
        encoder_hidden_states=texts["texts"],
        pooled_projections=texts["pooled"],
        return_dict=False,
    )[0]


# ---- Stable Diffusion, and XL --------------------------------------------------------------------


def _encode_sd(pipeline: Any, prompts: Sequence[str], length: int) -> Texts:
    texts, _ = pipeline.encode_prompt(list(prompts), pipeline.device, 1, False)
    return {"texts": texts}


def _encode_sdxl(pipeline: Any, prompts: Sequence[str], length: int) -> Texts:
    texts, _, pooled, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    return {"texts": texts, "pooled": pooled}


def _predict_unet(
    model: Any, noisy: Tensor, t: Tensor, texts: Texts, size: int, guidance: float
) -> Tensor:
    more: dict[str, Any] = {}
    if "pooled" in texts:  # XL is told the sizes: of the original, the crop's corner, the target
        sizes = noisy.new_tensor([size, size, 0, 0, size, size]).expand(len(noisy), 6)
        more = {"added_cond_kwargs": {"text_embeds": texts["pooled"], "time_ids": sizes}}
    return model(noisy, t, texts["texts"], return_dict=False, **more)[0]


def _unet_step(model: Any) -> int:
    return 2 ** (len(model.config.block_out_channels) - 1)


def _patch(model: Any) -> int:
    return model.config.patch_size


FAMILIES: dict[str, Family] = {
    "FluxPipeline": Family("transformer", "flow", _encode_flux, _predict_flux, lambda model: 2),
    "StableDiffusion3Pipeline": Family("transformer", "flow", _encode_sd3, _predict_sd3, _patch),
    "StableDiffusionPipeline": Family("unet", "noise", _encode_sd, _predict_unet, _unet_step),
    "StableDiffusionXLPipeline": Family("unet", "noise", _encode_sdxl, _predict_unet, _unet_step),
}
"""By the pipeline's class."""
