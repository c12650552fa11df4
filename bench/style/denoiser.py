"""A small class-conditional diffusion transformer (DiT, arXiv 2212.09748) in pixels, on flow
matching's straight path (arXiv 2210.02747). The class is the emoji: what is adapted is how it is
drawn. It predicts the clean image, not the velocity: noise in the prediction would be grain in the
drawing, and a small network does not predict noise well (arXiv 2511.13720)."""

from typing import Any

import torch
from diffusers import DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.loaders import PeftAdapterMixin
from torch import Tensor

from loram.vision.losses import Noising, flow_noising

SIZE, PATCH = 32, 4
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")


class Denoiser(DiTTransformer2DModel, PeftAdapterMixin):
    """diffusers' own class lacks `add_adapter`, which its larger transformers have."""


def new(classes: int, *, width: int, depth: int, head: int = 64) -> Any:
    """Random weights; 32 × 32 pixels are 64 tokens."""
    return Denoiser(
        num_attention_heads=width // head,
        attention_head_dim=head,
        in_channels=3,
        num_layers=depth,
        sample_size=SIZE,
        patch_size=PATCH,
        num_embeds_ada_norm=classes,
    ).eval()  # in training mode a tenth of the classes would be dropped, by the global generator


def scheduler() -> Any:
    """x_σ = (1 − σ)x + σε, σ uniform in (0, 1]."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)


def noising() -> Noising:
    """Of training and of the held-out loss."""
    return flow_noising(scheduler())


def loss(
    model: Any, make: Noising, images: Tensor, labels: Tensor, draw: torch.Generator
) -> Tensor:
    """Mean squared error of the clean image.

    Args:
        model: of `new`.
        make: of `noising`.
        images: (b, 3, 32, 32) in [−1, 1].
        labels: (b,), classes.
        draw: of times and noise, on the CPU.
    """
    noised = make(images, draw)
    said = model(noised.latents, timestep=noised.t, class_labels=labels).sample
    return (said.float() - images).square().mean()


@torch.no_grad()
def draw(model: Any, labels: list[int], *, steps: int, batch: int = 64) -> Tensor:
    """An image of each class by Euler's method; an emoji's noise is its own, whatever the model.

    Returns:
        (classes, 3, 32, 32) in [−1, 1], on the CPU.
    """
    device = next(model.parameters()).device
    drawn: list[Tensor] = []
    for start in range(0, len(labels), batch):
        part = labels[start : start + batch]
        noise = [torch.randn(3, SIZE, SIZE, generator=_of(label)) for label in part]
        x = torch.stack(noise).to(device)
        classes = torch.tensor(part, device=device)
        walk = scheduler()
        walk.set_timesteps(steps, device=device)
        for t in walk.timesteps:
            with torch.autocast(device.type, torch.bfloat16):
                said = model(x, timestep=t.expand(len(part)), class_labels=classes).sample
            velocity = (x - said.float()) / (t / walk.config.num_train_timesteps)
            x = walk.step(velocity, t, x).prev_sample
        drawn.append(x.clamp(-1, 1).float().cpu())
    return torch.cat(drawn)


def _of(label: int) -> torch.Generator:
    return torch.Generator().manual_seed(label)
