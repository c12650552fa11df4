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
        u, i = self._tokens()
        of_user = torch.bincount(u, minlength=users + 1).float()
        of_item = torch.bincount(i, minlength=items + 1).float()
        self.register_buffer("of_user", of_user, persistent=False)
        self.register_buffer("of_item", of_item, persistent=False)

    def _tokens(self) -> tuple[Tensor, Tensor]:
        return self.pairs // self.items + 1, self.pairs % self.items + 1

    def sums(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Of all users (users + 1, d) and items (items + 1, d): sums of their lists' vectors."""
        u, i = self._tokens()
        of_users = torch.zeros_like(users).index_add(0, u, items.index_select(0, i))
        of_items = torch.zeros_like(items).index_add(0, i, users.index_select(0, u))
        return of_users, of_items

    def means(
        self,
        of_users: Tensor,
        of_items: Tensor,
        users: Tensor,
        items: Tensor,
        u: Tensor,
        i: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Means (n, d) of the lists of tokens u and i (n,); zeros where a list is empty.

        Args:
            of_users: sums of their lists (users + 1, d).
            of_items: likewise.
            users: their vectors (users + 1, d).
            items: likewise.
            u: tokens, 0 for unknown.
            i: likewise.
        """
        met = self._met(u, i) if not self.own else torch.zeros(len(u))
        of_user = (of_users[u] - met[:, None] * items[i]) / _counts(self.of_user[u] - met)
        of_item = (of_items[i] - met[:, None] * users[u]) / _counts(self.of_item[i] - met)
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
