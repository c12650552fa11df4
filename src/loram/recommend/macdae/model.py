"""`ContextModel`: tokens in, context out, and what its reconstruction costs."""

import numpy as np
import torch
from torch import Tensor, nn

from loram.recommend.encoders.fields import Fields, FieldTable
from loram.recommend.encoders.fit import Batch
from loram.recommend.interactions import Ints
from loram.recommend.macdae.coders import CODERS, Coded
from loram.recommend.macdae.neighbours import Neighbours
from loram.recommend.macdae.settings import MacdaeSettings

__all__ = ["ContextModel"]


class ContextModel(nn.Module):
    """x = [fields' embeddings, mean of the user's items, mean of the item's users, user ⊙ item].

    Args:
        fields: the first two are user and item.
        settings: widths and behaviours.
        pairs: user and item codes (m,) of the rows that neighbour lists are made of.
    """

    def __init__(
        self, fields: Fields, settings: MacdaeSettings, pairs: tuple[Ints, Ints] | None = None
    ) -> None:
        super().__init__()
        self.fields, self.settings = fields, settings
        empty = np.zeros(0, dtype=np.int64)
        user, item = (empty, empty) if pairs is None else pairs
        users, items = fields.sizes[0] - 1, fields.sizes[1] - 1
        own = settings.own == "kept"
        self.neighbours = Neighbours(user, item, users, items, own=own)
        # Not as small as a recommender's start: what is all but zero is reconstructed by zeros.
        self.table = FieldTable(fields.sizes, settings.embedding, std=0.1)
        self.inputs = (len(fields.sizes) + 3) * settings.embedding
        self.coder = CODERS[settings.kind](self.inputs, settings)
        self._lists: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> "ContextModel":
        """As any module's; sums of the lists are kept while it is not trained."""
        self._lists = None
        return super().train(mode)

    def input(self, tokens: Tensor) -> Tensor:
        """The clean x (n, inputs) of tokens (n, fields)."""
        vectors = self.table(tokens)
        means = self.neighbours.means(*self._of_all(), tokens[:, 0], tokens[:, 1])
        return torch.cat([vectors.flatten(1), *means, vectors[:, 0] * vectors[:, 1]], dim=1)

    def _of_all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sums of all lists, and the vectors of all users and items; kept while in use."""
        if self._lists is not None:
            return self._lists
        users = self.table.field(0, self.fields.sizes[0])
        items = self.table.field(1, self.fields.sizes[1])
        lists = (*self.neighbours.sums(users, items), users, items)
        if not self.training and not torch.is_grad_enabled():
            self._lists = lists
        return lists

    def code(self, tokens: Tensor) -> tuple[Coded, Tensor]:
        """What the coder makes of tokens, and the clean x that it was given."""
        x = self.input(tokens)
        return self.coder(x), x

    def cost(self, coded: Coded, x: Tensor) -> Tensor:
        """Cost (n,): squared error, summed or averaged, and `weight` × penalty."""
        target = x.detach() if self.settings.target == "detached" else x
        error = (coded.reconstruction - target) ** 2
        error = error.sum(1) if self.settings.reduction == "sum" else error.mean(1)
        return error + self.settings.weight * coded.penalty

    def forward(self, tokens: Tensor) -> Tensor:
        """Contexts (n, width)."""
        return self.code(tokens)[0].z

    def loss(self, batch: Batch) -> Tensor:
        """Mean cost of `tokens`: the loss of pretraining."""
        return self.cost(*self.code(batch["tokens"])).mean()
