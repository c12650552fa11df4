"""SASRec (arXiv 1808.09781): the next item from the ones before, by causal self-attention.

Cross-entropy over all items instead of one sampled negative; the output shares the item table.

>>> sasrec, curve = fit_sasrec(data, rows.train, samples(data, rows.valid, length=25))
"""

from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from loram.recommend.encoders.fit import Batch, Curve, FitSettings, fit
from loram.recommend.encoders.seeding import seeded
from loram.recommend.encoders.stored import restore, store
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Interactions, Ints
from loram.recommend.samples import Samples

__all__ = ["SASREC_PLAN", "SASRec", "SasrecSettings", "fit_sasrec"]

SASREC_PLAN = FitSettings(epochs=40, batch=64, lr=2e-3, patience=5)
"""How it is fitted where nobody says."""


class SasrecSettings(BaseModel):
    """Sizes.

    Attributes:
        width: of the vectors.
        length: of the histories that are read; longer ones lose their oldest items.
        blocks: of attention and perceptron.
        heads: of the attention.
        dropout: after embedding, attention and perceptron.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=1)
    length: int = Field(default=25, ge=1)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class SASRec(nn.Module):
    """States of histories, padded on the left with token 0.

    Args:
        items: how many there are.
        settings: sizes.
    """

    def __init__(self, items: int, settings: SasrecSettings) -> None:
        super().__init__()
        self.items, self.settings = items, settings
        width, dropout = settings.width, settings.dropout
        self.item = nn.Embedding(items + 1, width, padding_idx=0)
        self.place = nn.Embedding(settings.length, width)
        for table in (self.item, self.place):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.item.weight[0].detach())
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.heads, width, dropout, batch_first=True, norm_first=True
            )
            for _ in range(settings.blocks)
        )
        self.norm = nn.LayerNorm(width)

    def states(self, tokens: Tensor) -> Tensor:
        """State (n, length, width) after each token (n, length); zeros at padding."""
        length = tokens.shape[1]
        there = tokens > 0
        # The newest item has the last place, however short the history is.
        places = torch.arange(self.settings.length - length, self.settings.length)
        x = self.drop(self.item(tokens) * self.settings.width**0.5 + self.place(places))
        allowed = torch.ones(length, length, dtype=torch.bool).tril() & there[:, None]
        allowed |= torch.eye(length, dtype=torch.bool)  # padding attends to itself: no empty rows
        blocked = (~allowed).repeat_interleave(self.settings.heads, 0)
        for block in self.blocks:
            x = block(x, src_mask=blocked)
        return self.norm(x) * there[:, :, None]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of every next item of `sequence` (n, length + 1)."""
        sequence = batch["sequence"]
        logits = self.states(sequence[:, :-1]) @ self.item.weight[1:].T
        # Predict from an item to an item: padding is neither.
        target = torch.where(sequence[:, :-1] > 0, sequence[:, 1:] - 1, -1)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)

    @property
    def widths(self) -> dict[str, int]:
        """Of `sequence` and `item`."""
        return {"sequence": self.settings.width, "item": self.settings.width}

    @torch.no_grad()
    def encode(self, samples: Samples) -> dict[str, Tensor]:
        """`sequence`, the state after the newest item, zeros of an empty history; and `item`."""
        if not samples.history.shape[1]:
            sequence = torch.zeros(len(samples), self.settings.width)
        else:
            tokens = self._tokens(samples.history[:, -self.settings.length :])
            sequence = torch.cat([self.states(part)[:, -1] for part in tokens.split(1024)])
        return {"sequence": sequence, "item": self.item_vectors(samples.item)}

    @torch.no_grad()
    def item_vectors(self, item: Ints) -> Tensor:
        """Vectors (..., width) of item codes (...)."""
        return self.item(self._tokens(item))

    @torch.no_grad()
    def score(self, samples: Samples, candidates: Ints) -> np.ndarray:
        """Scores (n, c) float64 of candidate codes (n, c)."""
        state = self.encode(samples)["sequence"]
        return torch.einsum("nd,ncd->nc", state, self.item_vectors(candidates)).double().numpy()

    def _tokens(self, item: Ints) -> Tensor:
        return torch.from_numpy(np.where((item < 0) | (item >= self.items), UNKNOWN, item) + 1)

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads."""
        about = {"items": self.items, "settings": self.settings.model_dump()}
        store(folder, "sasrec", about, dict(self.state_dict()))

    @classmethod
    def load(cls, folder: Path) -> "SASRec":
        """Read a folder that `save` wrote."""
        about, weights = restore(folder, "sasrec")
        model = cls(about["items"], SasrecSettings.model_validate(about["settings"]))
        model.load_state_dict(weights)
        return model.eval()


def fit_sasrec(
    data: Interactions,
    train: Ints,
    valid: Samples,
    settings: SasrecSettings | None = None,
    training: FitSettings | None = None,
) -> tuple[SASRec, Curve]:
    """Fit on the users' sequences of `train`; keep the epoch with the best MRR over all items.

    Args:
        data: with times; every interaction is an item of the sequence, liked or not.
        train: its training rows.
        valid: targets with histories; those of label 0 are not judged.
        settings: sizes.
        training: of the fit.

    Raises:
        RecommendError: no user has two training rows, or no validation target is positive.
    """
    chosen = settings or SasrecSettings()
    plan = training or SASREC_PLAN
    positive = valid.take(np.flatnonzero(valid.label == 1))
    if not len(positive):
        raise RecommendError(f"{data.name}: expected positive validation targets, got none")
    sequence = _sequences(data, train, chosen.length + 1)
    with seeded(plan.seed):
        model = SASRec(len(data.items), chosen)

    def validate() -> float:
        state = model.encode(positive)["sequence"]
        score = state @ model.item.weight[1:].T
        own = score.gather(1, torch.from_numpy(positive.item)[:, None])
        better, tied = (score > own).sum(1), (score == own).sum(1)
        return float((1 / (better + (tied + 1) / 2)).mean())

    return model, fit(model, {"sequence": sequence}, validate, plan)


def _sequences(data: Interactions, train: Ints, length: int) -> Tensor:
    """Tokens (n, length): each user's training items by time, cut from the newest, padded left.

    Neighbouring pieces share one item, so that each item but a user's first is a target once.
    """
    part = data.take(np.sort(train))
    order = part.chronological()
    user, item = part.user[order], part.item[order] + 1
    pieces: list[Ints] = []
    for own in np.split(item, np.flatnonzero(np.diff(user)) + 1):
        for end in range(len(own), 1, -(length - 1)):
            piece = own[max(end - length, 0) : end]
            pieces.append(np.r_[np.zeros(length - len(piece), dtype=np.int64), piece])
    if not pieces:
        raise RecommendError(f"{data.name}: expected a user with two training interactions or more")
    return torch.from_numpy(np.stack(pieces))
