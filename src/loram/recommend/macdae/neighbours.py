"""The items of each user and the users of each item, as sums and counts of embeddings."""

import numpy as np
import torch
from torch import Tensor, nn

from loram.recommend.interactions import Ints

__all__ = ["Neighbours"]


class Neighbours(nn.Module):
    """Means of a user's items and of an item's users, with or without the target pair itself.

    Args:
        user: (m,) codes of the rows that lists are made of; a pair counts once.
        item: (m,).
        users: how many there are.
        items: likewise.
        own: whether the pair that is asked for stays in the lists.
    """

    pairs: Tensor
    of_user: Tensor
    of_item: Tensor

    def __init__(self, user: Ints, item: Ints, users: int, items: int, *, own: bool) -> None:
        super().__init__()
        known = (user >= 0) & (item >= 0)
        pairs = np.unique(user[known] * items + item[known])
        self.users, self.items, self.own = users, items, own
        # Saved as pairs: a list of a list would not be a tensor.
        self.register_buffer("pairs", torch.from_numpy(pairs))
        self.register_buffer("of_user", torch.zeros(users + 1), persistent=False)
        self.register_buffer("of_item", torch.zeros(items + 1), persistent=False)
        self._matrix: Tensor | None = None
        self._matrix_t: Tensor | None = None
        self.refresh()

    def refresh(self) -> None:
        """Make counts and matrices of the pairs anew, as after loading."""
        u, i = self.pairs // self.items + 1, self.pairs % self.items + 1
        ones = torch.ones(len(u))
        shape = (self.users + 1, self.items + 1)
        self.of_user = torch.bincount(u, minlength=shape[0]).float()
        self.of_item = torch.bincount(i, minlength=shape[1]).float()
        self._matrix = torch.sparse_coo_tensor(torch.stack([u, i]), ones, shape).coalesce()
        self._matrix_t = self._matrix.t().coalesce()

    def sums(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Of all users (users + 1, d) and items (items + 1, d): sums of their lists' vectors."""
        assert self._matrix is not None
        assert self._matrix_t is not None
        return torch.sparse.mm(self._matrix, items), torch.sparse.mm(self._matrix_t, users)

    def means(
        self, sums: tuple[Tensor, Tensor], users: Tensor, items: Tensor, u: Tensor, i: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means (n, d) of the lists of tokens u and i (n,); zeros where a list is empty.

        Args:
            sums: of `sums`.
            users: their vectors (users + 1, d).
            items: likewise.
            u: tokens, 0 for unknown.
            i: likewise.
        """
        met = self._met(u, i) if not self.own else torch.zeros(len(u))
        of_user = (sums[0][u] - met[:, None] * items[i]) / _counts(self.of_user[u] - met)
        of_item = (sums[1][i] - met[:, None] * users[u]) / _counts(self.of_item[i] - met)
        return of_user, of_item

    def _met(self, u: Tensor, i: Tensor) -> Tensor:
        """1 where the pair is in the lists (n,)."""
        if not len(self.pairs):
            return torch.zeros(len(u))
        wanted = (u - 1) * self.items + (i - 1)
        place = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
        return ((self.pairs[place] == wanted) & (u > 0) & (i > 0)).float()


def _counts(count: Tensor) -> Tensor:
    return count.clamp(min=1)[:, None]
