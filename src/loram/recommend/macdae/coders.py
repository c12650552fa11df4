"""MACDAE's heads, and the plain and variational autoencoders it is compared with.

Each is a module with `forward(x) -> Coded`: x (n, d) clean, the context z (n, width), the decoder's
reconstruction (n, d), and a penalty (n,) of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loram.recommend.macdae.settings import MacdaeSettings

__all__ = ["CODERS", "Coded", "Dae", "Heads", "Vae"]


class Coded(NamedTuple):
    """Context z (n, width), reconstruction (n, d), penalty (n,)."""

    z: Tensor
    reconstruction: Tensor
    penalty: Tensor


class Heads(nn.Module):
    """h_k = softplus(W_k corrupt_k(x) + b_k); a = softmax_k((x W)·h_k); z = concat_k(a_k h_k).

    The query of the attention is the clean x (section 3.2 of the paper). The penalty is the sum
    over pairs of heads of cos(h_i, h_j) − ε, cut at 0 from below as a hinge.

    Args:
        inputs: width of x.
        settings: heads, width and the rest.
    """

    def __init__(self, inputs: int, settings: MacdaeSettings) -> None:
        super().__init__()
        self.heads, self.size = settings.heads, settings.width // settings.heads
        self.keep, self.epsilon = settings.keep, settings.epsilon
        self.hinge = settings.penalty == "hinge"
        self.encoders = nn.ModuleList(nn.Linear(inputs, self.size) for _ in range(self.heads))
        self.query = nn.Linear(inputs, self.size, bias=False)
        self.decoder = nn.Linear(settings.width, inputs)

    def forward(self, x: Tensor) -> Coded:
        """Code x (n, inputs)."""
        h = torch.stack([F.softplus(e(self._corrupt(x))) for e in self.encoders], dim=1)
        attention = torch.softmax((h * self.query(x)[:, None]).sum(2), dim=1)  # (n, K)
        z = (attention[:, :, None] * h).flatten(1)
        return Coded(z, self.decoder(z), self.disagreement(h))

    def disagreement(self, h: Tensor) -> Tensor:
        """Penalty (n,) of heads (n, K, size)."""
        unit = F.normalize(h, dim=2)
        first, second = torch.triu_indices(self.heads, self.heads, offset=1)
        over = (unit[:, first] * unit[:, second]).sum(2) - self.epsilon  # (n, pairs)
        return (over.clamp(min=0) if self.hinge else over).sum(1)

    def _corrupt(self, x: Tensor) -> Tensor:
        """A mask of its own for each head; kept numbers keep their size."""
        return x * (torch.rand_like(x) < self.keep) if self.training else x


class Dae(nn.Module):
    """z = softplus(W corrupt(x) + b), decoded linearly: one head, nothing to attend to."""

    def __init__(self, inputs: int, settings: MacdaeSettings) -> None:
        super().__init__()
        self.keep = settings.keep
        self.encoder = nn.Linear(inputs, settings.width)
        self.decoder = nn.Linear(settings.width, inputs)

    def forward(self, x: Tensor) -> Coded:
        """Code x (n, inputs)."""
        seen = x * (torch.rand_like(x) < self.keep) if self.training else x
        z = F.softplus(self.encoder(seen))
        return Coded(z, self.decoder(z), x.new_zeros(len(x)))


class Vae(nn.Module):
    """z ~ N(μ(x), σ(x)²), its mean where it is not trained; the penalty is KL to N(0, 1).

    Like the others' penalty it counts `weight` times.
    """

    def __init__(self, inputs: int, settings: MacdaeSettings) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, 2 * settings.width)
        self.decoder = nn.Linear(settings.width, inputs)

    def forward(self, x: Tensor) -> Coded:
        """Code x (n, inputs)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        z = mean + noise * torch.exp(log_variance / 2)
        kl = (mean**2 + log_variance.exp() - log_variance - 1).mean(1) / 2
        return Coded(z, self.decoder(z), kl)


CODERS: dict[str, Callable[[int, MacdaeSettings], nn.Module]] = {
    "macdae": Heads,
    "dae": Dae,
    "vae": Vae,
}
