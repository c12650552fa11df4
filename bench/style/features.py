"""How far drawn images are from real ones, by features of EfficientNet-Lite0 (ImageNet weights)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from loram.train.lite0 import IMAGE_SIZE
from loram.train.smollm2_lite0 import tower


class Distances(NamedTuple):
    """Of drawn images to the real ones of the same emoji.

    Attributes:
        feature: mean over emoji of 1 − cosine of their features.
        kernel: squared maximum mean discrepancy of both sets, unbiased, polynomial kernel of degree
            3 (the kernel inception distance of arXiv 1801.01401, on these features).
    """

    feature: float
    kernel: float


class Eye:
    """Features of images: the last map's mean over places, (n, 1280)."""

    def __init__(self) -> None:
        self._tower = tower()

    @torch.no_grad()
    def see(self, images: Tensor) -> Tensor:
        """Of (n, 3, h, w) in [−1, 1], enlarged to what the tower reads."""
        found = []
        for part in images.split(32):
            large = F.interpolate(part, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True)
            found.append(self._tower(large.clamp(-1, 1)).last_hidden_state.mean(1))
        return torch.cat(found)


def distances(drawn: Tensor, real: Tensor) -> Distances:
    """Of features, both (n, d), row by row of the same emoji."""
    cosine = F.cosine_similarity(drawn, real)
    return Distances((1 - cosine).mean().item(), kernel_distance(drawn.double(), real.double()))


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD² with k(a, b) = (a·b / d + 1)³; negative values are noise around 0."""
    n, m, d = len(x), len(y), x.shape[1]

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / d + 1) ** 3

    xx, yy = k(x, x), k(y, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (within - 2 * k(x, y).mean()).item()
