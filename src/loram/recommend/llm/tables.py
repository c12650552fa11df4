"""Tables of vectors for a set of cases: of a fitted encoder, or the user's own from a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from loram.recommend.encoders.protocol import Encoder
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Interactions, Ints
from loram.recommend.samples import Samples

__all__ = ["from_encoder", "from_file"]


@torch.no_grad()
def from_encoder(
    encoder: Encoder, data: Interactions, parts: Sequence[Samples]
) -> dict[str, Tensor]:
    """Tables by kind; sequence and context have a row for each sample, in order.

    Args:
        encoder: fitted.
        data: for the numbers of users and items.
        parts: the samples.
    """
    found: dict[str, list[Tensor]] = {}
    users = np.arange(len(data.users), dtype=np.int64)
    for part in parts:
        if len(part):
            for kind, rows in encoder.encode(part).items():
                found.setdefault(kind, []).append(rows.detach().float().cpu())
    tables = {k: torch.cat(found[k]) for k in ("sequence", "context") if k in found}
    if "user" in encoder.widths:
        tables["user"] = encoder.encode(_alone(users))["user"].detach().float().cpu()
    if "item" in encoder.widths:
        every = np.arange(len(data.items), dtype=np.int64)
        tables["item"] = encoder.item_vectors(every).detach().float().cpu()
    return tables


def _alone(user: Ints) -> Samples:
    """Users with no item and no history."""
    none = np.full(len(user), UNKNOWN, dtype=np.int64)
    empty = np.zeros((len(user), 0), dtype=np.int64)
    return Samples(user, none, np.ones(len(user)), none, empty, empty.astype(np.float64), empty)


def from_file(folder: Path, data: Interactions) -> dict[str, Tensor]:
    """One's own vectors: `vectors.safetensors` with user and item, and their ids in `ids.json`.

    An id that the file does not have gets zeros.

    Args:
        folder: of the two files. `ids.json` has lists of ids by `user` and `item`, in the order of
            the rows.
        data: whose ids are looked up.

    Raises:
        RecommendError: files that are missing, damaged, or do not fit each other.
    """
    try:
        tables = load_file(folder / "vectors.safetensors")
        ids: Any = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        named = {kind: [str(each) for each in ids[kind]] for kind in tables}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RecommendError(
            f"{folder}: expected vectors.safetensors with user, item or both, and ids.json with a "
            f"list of ids for each ({type(error).__name__}: {error})"
        ) from error
    vocabularies = {"user": data.users, "item": data.items}
    found: dict[str, Tensor] = {}
    for kind, table in tables.items():
        if kind not in vocabularies or table.ndim != 2 or len(named[kind]) != len(table):
            raise RecommendError(
                f"{folder}: expected user and item as matrices with an id for each row, got {kind} "
                f"of shape {tuple(table.shape)} and {len(named[kind])} ids"
            )
        place = {name: row for row, name in enumerate(named[kind])}
        rows = torch.tensor([place.get(name, len(table)) for name in vocabularies[kind]])
        if not table.isfinite().all():
            raise RecommendError(f"{folder}: expected finite {kind} vectors, got NaN or infinity")
        found[kind] = torch.cat([table.float(), torch.zeros(1, table.shape[1])])[rows]
    return found
