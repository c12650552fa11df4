"""Matrix factorisation: BPR (arXiv 1205.2618, criterion of section 4.1) or cross-entropy (CoLLM).

>>> mf, curve = fit_mf(data, rows.train, rows.valid)
"""

from pathlib import Path
from typing import Literal, cast

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
from loram.recommend.metrics import auc as auc_of
from loram.recommend.metrics import uauc
from loram.recommend.samples import Samples

__all__ = ["MF", "MF_PLAN", "MfSettings", "fit_mf"]

MF_PLAN = FitSettings(epochs=50, batch=1024, lr=1e-3, weight_decay=1e-5, patience=3)
"""How it is fitted where nobody says."""


class MfSettings(BaseModel):
    """Width and loss.

    Attributes:
        width: of the vectors; CoLLM's is 256.
        loss: `bce` on labels; `bpr` on positives against items drawn evenly.
        biases: of users and items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=1)
    loss: Literal["bce", "bpr"] = "bce"
    biases: bool = True


class MF(nn.Module):
    """Score u·i + b_u + b_i + b. Row 0 is the unknown: zeros, without a bias.

    Args:
        users: how many there are.
        items: likewise.
        settings: width and loss.
    """

    def __init__(self, users: int, items: int, settings: MfSettings) -> None:
        super().__init__()
        self.counts, self.settings = (users, items), settings
        self.user = nn.Embedding(users + 1, settings.width, padding_idx=0)
        self.item = nn.Embedding(items + 1, settings.width, padding_idx=0)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.01)
            nn.init.zeros_(table.weight[0].detach())
        self.user_bias = nn.Embedding(users + 1, 1, padding_idx=0)
        self.item_bias = nn.Embedding(items + 1, 1, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(()))
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
            table.weight.requires_grad_(settings.biases)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Scores (n,) of tokens (n,)."""
        product = (self.user(user) * self.item(item)).sum(-1)
        biases = self.user_bias(user) + self.item_bias(item)
        return product + biases.squeeze(-1) + self.bias

    def loss(self, batch: Batch) -> Tensor:
        """Of `user`, `item` and `label`; under BPR of the positives against drawn items."""
        user, item = batch["user"], batch["item"]
        score = self(user, item)
        if self.settings.loss == "bce":
            return F.binary_cross_entropy_with_logits(score, batch["label"])
        drawn = torch.randint(1, self.counts[1] + 1, item.shape)
        return -F.logsigmoid(score - self(user, drawn)).mean()

    @torch.no_grad()
    def cold(self, user: Tensor, item: Tensor) -> None:
        """Zero the vectors of all but these tokens: who is not learnt from is unknown."""
        for table, tokens in ((self.user, user), (self.item, item)):
            unseen = torch.ones(len(table.weight), dtype=torch.bool)
            unseen[tokens] = False
            table.weight[unseen] = 0

    @property
    def widths(self) -> dict[str, int]:
        """Of `user` and `item`."""
        return {"user": self.settings.width, "item": self.settings.width}

    @torch.no_grad()
    def encode(self, samples: Samples) -> dict[str, Tensor]:
        """`user` and `item` (n, width); zeros for the unknown."""
        users = self.user(_tokens(samples.user, self.counts[0]))
        return {"user": users, "item": self.item_vectors(samples.item)}

    @torch.no_grad()
    def item_vectors(self, item: Ints) -> Tensor:
        """Vectors (..., width) of item codes (...)."""
        return self.item(_tokens(item, self.counts[1]))

    @torch.no_grad()
    def score(self, user: Ints, item: Ints) -> np.ndarray:
        """Scores (n,) float64 of codes (n,), logits under `bce`."""
        tokens = _tokens(user, self.counts[0]), _tokens(item, self.counts[1])
        return cast(Tensor, self(*tokens)).double().numpy()

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads."""
        about = {"counts": self.counts, "settings": self.settings.model_dump()}
        store(folder, "mf", about, dict(self.state_dict()))

    @classmethod
    def load(cls, folder: Path) -> "MF":
        """Read a folder that `save` wrote."""
        about, weights = restore(folder, "mf")
        users, items = about["counts"]
        model = cls(users, items, MfSettings.model_validate(about["settings"]))
        model.load_state_dict(weights)
        return model.eval()


def fit_mf(
    data: Interactions,
    train: Ints,
    valid: Ints,
    settings: MfSettings | None = None,
    training: FitSettings | None = None,
) -> tuple[MF, Curve]:
    """Fit on the rows of `train`, keep the epoch with the best AUC on those of `valid`.

    Under BPR the AUC of valid is the mean over users, as scores of different users don't compare.

    Args:
        data: with labels; BPR takes those without as positives.
        train: rows.
        valid: rows with both classes.
        settings: of the model.
        training: of the fit.

    Raises:
        RecommendError: no labels, or a validation with one class alone.
    """
    chosen = settings or MfSettings()
    plan = training or MF_PLAN
    bpr = chosen.loss == "bpr"
    if bpr and data.label is not None:
        train = train[data.labels()[train] == 1]
    label = data.labels()
    if len(np.unique(label[valid])) < 2:
        raise RecommendError(
            f"{data.name}: expected validation rows of both labels, got {len(valid)} of one: "
            "sample negatives for them"
        )
    with seeded(plan.seed):
        model = MF(len(data.users), len(data.items), chosen)
    rows = {
        "user": _tokens(data.user[train], model.counts[0]),
        "item": _tokens(data.item[train], model.counts[1]),
        "label": torch.from_numpy(label[train]).float(),
    }

    model.cold(rows["user"], rows["item"])

    def validate() -> float:
        score = model.score(data.user[valid], data.item[valid])
        judged = uauc(label[valid], score, data.user[valid]) if bpr else float("nan")
        return auc_of(label[valid], score) if np.isnan(judged) else judged

    return model, fit(model, rows, validate, plan)


def _tokens(codes: Ints, count: int) -> Tensor:
    """Codes as tokens: c + 1, and 0 for what is unknown or came later."""
    return torch.from_numpy(np.where((codes < 0) | (codes >= count), UNKNOWN, codes) + 1)
