"""From a source to labelled samples of train, valid and test; and the models that are judged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from loram.recommend import tallrec as movies
from loram.recommend.encoders.fields import Fields
from loram.recommend.encoders.fit import FitSettings, fit
from loram.recommend.encoders.mf import MF_PLAN, MfSettings, fit_mf
from loram.recommend.encoders.sasrec import SASREC_PLAN, SasrecSettings, fit_sasrec
from loram.recommend.encoders.seeding import seeded
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Floats, Interactions, Ints
from loram.recommend.joining import joined
from loram.recommend.macdae.context import pretrained
from loram.recommend.macdae.recommender import Recommender
from loram.recommend.macdae.settings import MacdaeSettings
from loram.recommend.metrics import auc
from loram.recommend.negatives import parts_with_negatives
from loram.recommend.reading import Columns, read
from loram.recommend.samples import Samples, samples
from loram.recommend.splits import SPLITS, Rows, check_apart, check_disjoint, check_history

__all__ = ["MODELS", "Prepared", "prepare_data"]


class Prepared(NamedTuple):
    """Interactions with labels, their split, and its samples.

    Attributes:
        data: with labels.
        rows: of the parts.
        train: its samples.
        valid: likewise.
        test: likewise.
        happened: training rows of the source: all but negatives that were drawn.
    """

    data: Interactions
    rows: Rows
    train: Samples
    valid: Samples
    test: Samples
    happened: Ints


def prepare_data(
    source: str,
    *,
    columns: Columns | None = None,
    split: str = "temporal",
    like_above: float | None = None,
    negatives: int = 2,
    valid: Path | None = None,
    test: Path | None = None,
    length: int = 10,
) -> Prepared:
    """Read, label, split, and check for leaks.

    Labels are those of the source; else ratings above `like_above` (3); else every row is a like
    and `negatives` items that its user never met are drawn for it.

    Args:
        source: of `read`; of the training rows where `test` is given.
        columns: which column is what.
        split: `tallrec` or a name of `SPLITS`; nothing to split where `test` is given.
        like_above: also where there are labels.
        negatives: for each row without a label.
        valid: a file, beside `test`; a tenth of train, its newest rows of each user, without.
        test: a file with the same columns.
        length: of histories.

    Raises:
        RecommendError: the source, the split or a label can't be used.
        LeakError: what is judged can be seen.
    """
    known = ("tallrec", *SPLITS)
    if split not in known:
        raise RecommendError(f"--split {split}: expected one of {', '.join(known)}")
    if valid is not None and test is None:
        raise RecommendError("--valid is for files: give --test beside it")
    if test is not None:
        files = [source, test] if valid is None else [source, valid, test]
        data, given = joined([read(file, columns) for file in files])
        rows = _newest_as_valid(data, given) if valid is None else Rows(*given)
    else:
        data, rows = read(source, columns), None
    if like_above is not None or (data.label is None and data.rating is not None):
        data = data.liked(3.0 if like_above is None else like_above)
    if data.label is not None:
        data.labels()
    if rows is None and split == "tallrec":
        parts = movies.tallrec(data)
        rows = Rows(*(part.row for part in parts))
        return _checked(data, rows, *parts)
    rows = rows or SPLITS[split](data)
    check_disjoint(rows)
    check_apart(data, rows)
    length = length if data.history is not None or data.time is not None else 0
    # What is learnt from and chosen by sees nothing of the test, not in a history either.
    seen = (rows.train, np.concatenate([rows.train, rows.valid]), None)
    parts = [
        samples(data, part, length=length, among=among)
        for part, among in zip(rows, seen, strict=True)
    ]
    if data.label is not None:
        return _checked(data, rows, *parts)
    _checked(data, rows, *parts)
    data, drawn = parts_with_negatives(data, rows, each=(negatives, negatives, negatives))
    parts = [_with_drawn(data, part, row) for part, row in zip(parts, drawn, strict=True)]
    happened = drawn.train[: len(rows.train)]
    return _checked(data, drawn, *parts)._replace(happened=happened)


def _with_drawn(data: Interactions, positive: Samples, rows: Ints) -> Samples:
    """Samples of positives and of their negatives, which share their histories."""
    first = np.arange(len(positive))
    each = len(rows) // max(len(positive), 1) - 1
    of = positive.take(np.r_[first, np.repeat(first, each)])
    return replace(
        of,
        item=data.item[rows],
        label=data.labels()[rows],
        row=rows,
        history_row=np.full_like(of.history_row, UNKNOWN),  # they are not rows of these data
    )


def _checked(
    data: Interactions, rows: Rows, train: Samples, valid: Samples, test: Samples
) -> Prepared:
    if not len(valid) or not len(test):
        raise RecommendError(f"{data.name}: the split leaves {len(valid)} rows to choose by")
    check_disjoint(rows)
    held = (np.concatenate([rows.valid, rows.test]), rows.test, ())
    for part, held_out in zip((train, valid, test), held, strict=True):
        if data.time is not None or data.history is not None:
            check_history(data, part, held_out)
    return Prepared(data, rows, train, valid, test, rows.train)


def _newest_as_valid(data: Interactions, rows: tuple[Ints, ...]) -> Rows:
    train, test = rows
    count = max(len(train) // 10, 1)
    newest = train if data.time is None else train[np.argsort(data.time[train], kind="stable")]
    return Rows(np.sort(newest[:-count]), np.sort(newest[-count:]), test)


def _mf(loss: str) -> Callable[[Prepared, int], Floats]:
    def score(made: Prepared, seed: int) -> Floats:
        settings = MfSettings.model_validate({"loss": loss})
        plan = MF_PLAN.model_copy(update={"seed": seed})
        model, _ = fit_mf(made.data, made.rows.train, made.rows.valid, settings, plan)
        return model.score(made.test.user, made.test.item)

    return score


def _sasrec(made: Prepared, seed: int) -> Floats:
    if not (made.test.history >= 0).any():
        raise RecommendError("sasrec: expected histories, the data has no times and no histories")
    plan = SASREC_PLAN.model_copy(update={"seed": seed})
    length = made.test.history.shape[1]
    settings = SasrecSettings(length=length)
    model, _ = fit_sasrec(made.data, made.happened, made.valid, settings, plan)
    return model.score(made.test, made.test.item[:, None])[:, 0]


def _ctr(base: str, kind: str | None = None) -> Callable[[Prepared, int], Floats]:
    def score(made: Prepared, seed: int) -> Floats:
        data, label = made.data, made.data.labels()
        fields, plan = Fields.of(data), FitSettings(batch=2048, lr=5e-3, seed=seed)
        tokens = fields.tokens(data)
        context = None
        if kind is not None:
            settings = MacdaeSettings.model_validate({"kind": kind, "width": 64, "embedding": 16})
            context = pretrained(data, made.rows.train, settings, plan)
        with seeded(seed):
            model = Recommender(base, fields, context)
        rows = made.rows
        model.cold(tokens[rows.train])
        learn = {"tokens": tokens[rows.train], "label": torch.tensor(label[rows.train]).float()}

        def validate() -> float:
            return auc(label[rows.valid], model.score(tokens[rows.valid]).double().numpy())

        fit(model, learn, validate, plan)
        return model.score(tokens[rows.test]).double().numpy()

    return score


MODELS: dict[str, Callable[[Prepared, int], Floats]] = {
    "mf": _mf("bce"),
    "bpr": _mf("bpr"),
    "sasrec": _sasrec,
    "wide-deep": _ctr("wide-deep"),
    "deepfm": _ctr("deepfm"),
    "nfm": _ctr("nfm"),
    "wide-deep+macdae": _ctr("wide-deep", "macdae"),
    "deepfm+macdae": _ctr("deepfm", "macdae"),
    "nfm+macdae": _ctr("nfm", "macdae"),
}
"""Trained and scored on the test targets, by name."""
