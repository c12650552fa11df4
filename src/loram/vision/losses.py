"""What a denoiser is trained for: flow matching, or its scheduler's noise or velocity."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from loram.vision.errors import VisionError
from loram.vision.families import Family

__all__ = ["Noised", "Noising", "flow_noising", "noising_of"]


class Noised(NamedTuple):
    """Latents as the denoiser sees them, at which time, and what it is to say."""

    latents: Tensor  # (b, c, h, w)
    t: Tensor  # (b,), of 0…1000
    target: Tensor  # (b, c, h, w)


class Noising(Protocol):
    """Draws times and noise."""

    def __call__(self, latents: Tensor, draw: torch.Generator) -> Noised: ...  # noqa: D102


def noising_of(pipeline: Any, family: Family) -> Noising:
    """The noising of a pipeline's own scheduler; taken before it samples, which changes it.

    Raises:
        VisionError: a scheduler that is trained for something else.
    """
    if family.loss == "flow":
        return flow_noising(pipeline.scheduler)
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise VisionError(f"the scheduler predicts {kind!r}: expected epsilon or v_prediction")

    def noised(latents: Tensor, draw: torch.Generator) -> Noised:
        noise = _normal(latents, draw)
        steps = scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(latents),), generator=draw).to(latents.device)
        target = noise if kind == "epsilon" else scheduler.get_velocity(latents, noise, t)
        return Noised(scheduler.add_noise(latents, noise, t), t, target)

    return noised


def flow_noising(scheduler: Any) -> Noising:
    """x_σ = (1 − σ)x + σε, and the target ε − x (arXiv 2209.03003); σ uniform over the steps.

    Args:
        scheduler: a flow matching one of diffusers, before it samples.
    """
    sigmas, times = scheduler.sigmas.clone(), scheduler.timesteps.clone()

    def noised(latents: Tensor, draw: torch.Generator) -> Noised:
        noise = _normal(latents, draw)
        index = torch.randint(len(times), (len(latents),), generator=draw)
        sigma = sigmas[index].to(latents)[:, None, None, None]
        t = times[index].to(latents.device)
        return Noised((1 - sigma) * latents + sigma * noise, t, noise - latents)

    return noised


def _normal(like: Tensor, draw: torch.Generator) -> Tensor:
    """Drawn on the CPU, so that every device has the same."""
    return torch.randn(like.shape, generator=draw).to(like)
