"""Everything that decides the result of a DreamBooth run."""

import re
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from loram.methods import METHODS, Method, named

__all__ = ["RECIPES", "DreamBoothSettings"]

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]

RECIPES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        # arXiv 2507.06558, figure 4.
        "paper": {
            "model": "black-forest-labs/FLUX.1-dev",
            "rank": 8,
            "lr": 1e-4,
            "batch_size": 1,
            "steps": 1000,
        }
    }
)
"""Named settings; what is given beside the name counts more."""


class DreamBoothSettings(BaseModel):
    """One DreamBooth run (arXiv 2208.12242): a subject from a few images of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipe: Literal["paper"] | None = Field(None, description="named settings, as a start")
    model: str = Field("black-forest-labs/FLUX.1-dev", description="hub id or folder of a pipeline")
    images: str = Field(description="folder with images of the subject")
    prompt: str = Field(description="of these images, with the token in it: 'a photo of sks dog'")
    token: str = Field(
        "sks", description="the word that is to mean the subject", validate_default=True
    )
    class_images: str | None = Field(
        None, description="folder with images of the class, for prior preservation"
    )
    class_prompt: str | None = Field(
        None, description="of these images: 'a photo of a dog'", validate_default=True
    )
    prior_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="of the class images' loss"
    )
    skip_bad_images: bool = Field(False, description="leave unreadable images out")
    method: str = Field("loram", description="a row of the command methods")
    rank: Positive = Field(8, description="r")
    alpha: float | None = Field(None, gt=0, description="lora_alpha; by default r, so that s = 1")
    target_modules: str = Field(
        "to_q,to_k,to_v,to_out.0", description="names of layers joined by commas"
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-4, description="learning rate after warm-up")
    warmup_steps: NotNegative = Field(0, description="linear from 0")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(1.0, description="0 for no clipping")
    batch_size: Positive = Field(1, description="subject images of a step")
    steps: Positive = Field(500, description="optimiser steps")
    size: Positive = Field(512, description="side of the square images, in pixels")
    text_length: Positive = Field(512, description="tokens that a T5 encoder reads")
    guidance: Annotated[float, Field(ge=0)] = Field(
        3.5, description="told to a guidance-distilled FLUX while it trains"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the base; the factors are float32"
    )
    seed: NotNegative = Field(0, description="of order, noise, time steps and factors")
    grad_checkpointing: bool = Field(False, description="less memory, more time")
    save_every: NotNegative = Field(100, description="steps between checkpoints; 0 for none")
    validation_prompt: str | None = Field(None, description="of images drawn on the way")
    validate_every: Positive = Field(250, description="steps between validation images")
    validation_images: Positive = Field(4, description="a row of the grid")
    validation_steps: Positive = Field(25, description="of the sampler")

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = cast(dict[str, Any], values)
        return {**RECIPES.get(str(given.get("recipe")), {}), **given}

    @field_validator("method")
    @classmethod
    def _offered(cls, value: str) -> str:
        row = named(value)
        if row.init is None or row.data is not None:
            why = "no adapter" if row.init is None else f"starts from data ({row.data})"
            fit = [
                name for name, each in METHODS.items() if each.init is not None and not each.data
            ]
            raise ValueError(f"not for diffusion models ({why}): expected one of {', '.join(fit)}")
        return row.name

    @field_validator("token")
    @classmethod
    def _in_the_prompt(cls, value: str, info: ValidationInfo) -> str:
        prompt = info.data.get("prompt")
        if prompt is not None and not _says(prompt, value):
            raise ValueError(
                f"the prompt {prompt!r} lacks the token: expected e.g. 'a photo of {value} dog', "
                "or the token that it has"
            )
        return value

    @field_validator("class_prompt")
    @classmethod
    def _of_the_class(cls, value: str | None, info: ValidationInfo) -> str | None:
        token = info.data.get("token")
        if (info.data.get("class_images") is None) != (value is None):
            raise ValueError("class_images and class_prompt go together: give both or neither")
        if value is not None and token is not None and _says(value, token):
            raise ValueError(
                f"has the subject's token {token!r} in it: expected the class alone, e.g. 'a photo "
                "of a dog'"
            )
        return value

    @property
    def row(self) -> Method:
        """The method as a row of the table."""
        return named(self.method)

    @property
    def lora_alpha(self) -> float:
        """α, with its default of r."""
        return self.alpha if self.alpha is not None else float(self.rank)


def _says(prompt: str, token: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt, re.IGNORECASE) is not None
