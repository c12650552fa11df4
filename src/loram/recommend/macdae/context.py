"""`ContextEncoder`: MACDAE on its own: interactions in, the context of a request out.

>>> encoder = ContextEncoder.fit(data, rows.train)
>>> encoder.context("196", "242", {"weather": "sunny"})        # (256,)
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.files import staged_folder
from loram.recommend.encoders.fields import Fields
from loram.recommend.encoders.fit import FitSettings, fit
from loram.recommend.encoders.seeding import seeded
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Column, Interactions, Ints
from loram.recommend.macdae.model import ContextModel
from loram.recommend.macdae.settings import MacdaeSettings
from loram.recommend.samples import Samples

__all__ = ["CONTEXT_PLAN", "ContextEncoder", "pretrained"]

CONTEXT_PLAN = FitSettings(batch=128)
"""How it is pretrained where nobody says; `epochs` is in its settings."""

_FORMAT = "loram-context/1"


def pretrained(
    data: Interactions,
    train: Ints,
    settings: MacdaeSettings,
    training: FitSettings,
) -> ContextModel:
    """A context model pretrained to reconstruct the positive training rows.

    Args:
        data: all interactions; what is not in `train` is read only if `neighbours` is `all`.
        train: its training rows.
        settings: of the model; `epochs` of pretraining is there.
        training: learning rate, batch and seed.
    """
    fields = Fields.of(data, context=settings.features == "context")
    if settings.features == "ids":
        fields = Fields(fields.names[:2], fields.sizes[:2])
    positive = _positive(data, train)
    everything = np.arange(len(data)) if data.label is None else np.flatnonzero(data.labels() == 1)
    listed = everything if settings.neighbours == "all" else positive
    with seeded(training.seed):
        model = ContextModel(fields, settings, (data.user[listed], data.item[listed]))
    if settings.epochs:
        tokens = fields.tokens(data)[positive]
        # There is nothing to validate against: the last epoch is the best.
        epochs = iter(range(settings.epochs))
        plan = training.model_copy(update={"epochs": settings.epochs})
        fit(model, {"tokens": tokens}, lambda: float(next(epochs)), plan)
    return model.eval()


def _positive(data: Interactions, rows: Ints) -> Ints:
    return rows if data.label is None else rows[data.labels()[rows] == 1]


class ContextEncoder:
    """The inferred context of a user, an item and an explicit context, in real time.

    A cold start is whatever the rest of the input says: users, items and values that are unknown,
    or in no positive row it learnt from, have zero vectors and empty neighbour lists.

    Args:
        model: pretrained.
        about: vocabularies and features of users and items that it was made with.
    """

    def __init__(self, model: ContextModel, about: Interactions) -> None:
        self.model = model.eval()
        self._data = about
        self._user = {name: code for code, name in enumerate(about.users)}
        self._item = {name: code for code, name in enumerate(about.items)}
        self._context = {
            name: {text: code for code, text in enumerate(column.vocabulary)}
            for name, column in about.context.items()
        }

    @classmethod
    def fit(
        cls,
        data: Interactions,
        train: Ints | None = None,
        settings: MacdaeSettings | None = None,
        training: FitSettings | None = None,
    ) -> "ContextEncoder":
        """Pretrain on the positive rows of `train`; all rows by default."""
        rows = np.arange(len(data)) if train is None else train
        chosen = settings or MacdaeSettings()
        model = pretrained(data, rows, chosen, training or CONTEXT_PLAN)
        model.table.cold(model.fields.tokens(data)[_positive(data, rows)])
        return cls(model, data)

    @property
    def widths(self) -> dict[str, int]:
        """The width of `context`."""
        return {"context": self.model.settings.width}

    @torch.no_grad()
    def encode(self, samples: Samples) -> dict[str, Tensor]:
        """`context` (n, width) of samples."""
        tokens = self._tokens(samples.user, samples.item, samples.context)
        return {"context": self.model(tokens)}

    def item_vectors(self, item: Ints) -> Tensor:
        """MACDAE has embeddings of items, made to be reconstructed: (..., embedding)."""
        sizes = self.model.fields.sizes
        tokens = torch.from_numpy(np.where(item < sizes[1] - 1, item, UNKNOWN) + 1)
        return self.model.table.field(1, sizes[1]).detach()[tokens]

    @torch.no_grad()
    def context(self, user: str, item: str, context: Mapping[str, str] | None = None) -> Tensor:
        """Context (width,) of one request, by ids and values as the source wrote them.

        Raises:
            RecommendError: a context that the encoder was not made with.
        """
        given = context or {}
        if strange := sorted(set(given) - set(self._context)):
            raise RecommendError(f"expected context among {sorted(self._context)}, got {strange}")
        codes = {
            name: _one(known.get(given.get(name, ""), UNKNOWN))
            for name, known in self._context.items()
        }
        whose = _one(self._user.get(str(user), UNKNOWN))
        what = _one(self._item.get(str(item), UNKNOWN))
        return self.model(self._tokens(whose, what, codes))[0]

    def _tokens(self, user: Ints, item: Ints, context: Mapping[str, Ints]) -> Tensor:
        return self.model.fields.tokens_of(self._data, user, item, context)

    def save(self, folder: Path) -> None:
        """Write `context.json` and `context.safetensors`, both or neither.

        Raises:
            RecommendError: something is there already.
        """
        about = {
            "format": _FORMAT,
            "settings": self.model.settings.model_dump(),
            "fields": self.model.fields._asdict(),
            "users": self._data.users,
            "items": self._data.items,
            "context": {name: c.vocabulary for name, c in self._data.context.items()},
            "user_features": _saved(self._data.user_features),
            "item_features": _saved(self._data.item_features),
        }
        if folder.exists():
            raise RecommendError(f"{folder}: expected a folder that is not there yet")
        with staged_folder(folder) as staging:
            (staging / "context.json").write_text(json.dumps(about), encoding="utf-8")
            save_file(dict(self.model.state_dict()), staging / "context.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "ContextEncoder":
        """Read what `save` wrote.

        Raises:
            RecommendError: a file is missing, damaged, or of another format.
        """
        try:
            about: dict[str, Any] = json.loads((folder / "context.json").read_text("utf-8"))
            if about.get("format") != _FORMAT:
                raise RecommendError(f"{folder}: expected {_FORMAT}, got {about.get('format')!r}")
            weights = load_file(folder / "context.safetensors")
            settings = MacdaeSettings.model_validate(about["settings"])
            fields = Fields(*(tuple(about["fields"][k]) for k in Fields._fields))
            items = fields.sizes[1] - 1
            pairs = weights["neighbours.pairs"].numpy()
            model = ContextModel(fields, settings, (pairs // items, pairs % items))
            model.load_state_dict(weights)
            data = _empty(about)
        except (OSError, KeyError, ValueError, SafetensorError, RuntimeError, ValidationError) as e:
            raise RecommendError(
                f"{folder}: expected context.json and context.safetensors as ContextEncoder.save "
                f"writes them ({str(e).splitlines()[0]})"
            ) from e
        return cls(model, data)


def _one(code: int) -> Ints:
    return np.asarray([code], dtype=np.int64)


def _saved(columns: Mapping[str, Column]) -> dict[str, Any]:
    return {n: {"codes": c.codes.tolist(), "values": c.vocabulary} for n, c in columns.items()}


def _empty(about: dict[str, Any]) -> Interactions:
    """Interactions with the vocabularies of an encoder, and one row of nothing."""

    def columns(saved: dict[str, Any]) -> dict[str, Column]:
        return {
            name: Column(np.asarray(one["codes"], dtype=np.int64), tuple(one["values"]))
            for name, one in saved.items()
        }

    data = Interactions(
        "context",
        *(_one(UNKNOWN), _one(UNKNOWN), tuple(about["users"]), tuple(about["items"])),
        user_features=columns(about["user_features"]),
        item_features=columns(about["item_features"]),
    )
    context = {n: Column(_one(UNKNOWN), tuple(v)) for n, v in about["context"].items()}
    return replace(data, context=context)
