"""A finished run asked again: about its own test, or about rows of a file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Interactions
from loram.recommend.llm.build import reload
from loram.recommend.llm.case import Case
from loram.recommend.llm.data import load
from loram.recommend.llm.encoders import load_encoder, tables_of
from loram.recommend.llm.examples import Writer, window_of
from loram.recommend.llm.folder import read_json
from loram.recommend.llm.judging import Scorer
from loram.recommend.llm.report import judged
from loram.recommend.llm.run import judge_all, silent
from loram.recommend.llm.settings import DataOf, LLMSettings
from loram.recommend.llm.tables import from_encoder
from loram.recommend.samples import Samples
from loram.train.model import load_pretrained, pick_dtype

__all__ = ["evaluate", "score"]

Bars = Callable[[str, int | None], Callable[[int], None]]


def evaluate(out: Path, *, bars: Bars = silent) -> dict[str, Any]:
    """The test's metrics again, from the saved adapter and parts; as in `results.json`.

    Raises:
        RecommendError: the run is not finished, or its files are damaged.
    """
    settings = _settings(out)
    asked = load(settings.data, seed=settings.seed)
    _same_data(out, asked.data)
    tables = tables_of(settings, asked, out)
    model, writer, scorer = _reloaded(settings, asked.data, tables, out, bars)
    test = [writer(case) for case in asked.test.cases]
    scores = judge_all(settings, model, test, scorer, bars)
    return {name: judged(test, found, settings.resamples) for name, found in scores.items()}


def score(out: Path, rows: Path, *, bars: Bars = silent) -> list[dict[str, Any]]:
    """Rows of a JSONL file with their scores.

    A row has `user`, `history` (ids, oldest first), `liked` (of the history; all by default), and
    `item`, or `candidates` for a run that ranks. Ids unknown to the run are a cold start: their
    vectors are zeros and their titles unknown; a `titles` object may name them. The explicit
    context of a row goes in `context`, by name.

    Raises:
        RecommendError: the run is not finished, or a row lacks something.
    """
    settings = _settings(out)
    data = load(settings.data, seed=settings.seed).data
    _same_data(out, data)
    asked = [_row(line, number, settings) for number, line in enumerate(_read(rows), start=1)]
    if not asked:
        raise RecommendError(f"{rows}: expected a JSON object a line, the file has none")
    names = _Names(data)
    cases = [names.case(row, i, settings.data) for i, row in enumerate(asked)]
    tables: dict[str, Tensor] = {}
    encoder = load_encoder(settings, out)
    if encoder is not None:
        tables = from_encoder(encoder, data, [_samples(data, cases, asked)])
    elif settings.encoder.name == "file":
        tables = tables_of(settings, load(settings.data, seed=settings.seed), out)
    model, writer, scorer = _reloaded(settings, data, tables, out, bars, titles=names.titles)
    examples = [writer(case) for case in cases]
    tick = bars("scoring", len(examples))
    if settings.data.candidates:  # rows may have different numbers of candidates
        found = [
            scorer(model, [each], hybrid=settings.is_hybrid, progress=tick)[0].tolist()
            for each in examples
        ]
        return [{**row, "scores": each} for row, each in zip(asked, found, strict=True)]
    scores = scorer(model, examples, hybrid=settings.is_hybrid, progress=tick).tolist()
    return [{**row, "score": each} for row, each in zip(asked, scores, strict=True)]


class _Names:
    """Codes and titles, those of unknown items that a row names included."""

    def __init__(self, data: Interactions) -> None:
        self._user = {name: code for code, name in enumerate(data.users)}
        self._item = {name: code for code, name in enumerate(data.items)}
        self.titles = list(data.titled())

    def case(self, row: dict[str, Any], place: int, of: DataOf) -> Case:
        titles: dict[str, str] = row.get("titles", {})

        def code(name: Any) -> int:
            known = self._item.get(str(name))
            if known is None and str(name) in titles:  # a code past the encoder's table: zeros
                known = self._item[str(name)] = len(self.titles)
                self.titles.append(titles[str(name)])
            return UNKNOWN if known is None else known

        liked = map(bool, row.get("liked", [True] * len(row["history"])))
        met = [(code(item), yes) for item, yes in zip(row["history"], liked, strict=True)]
        met = [(item, yes) for item, yes in met if yes or not of.liked_only][-of.history :]
        candidates = tuple(code(item) for item in row.get("candidates", ()))
        return Case(
            user=self._user.get(str(row.get("user")), UNKNOWN),
            history=tuple(item for item, _ in met),
            liked=tuple(yes for _, yes in met),
            target=code(row["item"]) if "item" in row else UNKNOWN,
            candidates=candidates,
            row=place,
        )


def _samples(data: Interactions, cases: list[Case], rows: list[dict[str, Any]]) -> Samples:
    """The cases as encoders read them; codes past the data's are unknown to it."""
    n, width = len(cases), max(1, *(len(case.history) for case in cases))

    def known(code: int, size: int) -> int:
        return code if code < size else UNKNOWN

    history = np.full((n, width), UNKNOWN, dtype=np.int64)
    liked = np.zeros((n, width))
    for i, case in enumerate(cases):
        first = width - len(case.history)
        history[i, first:] = [known(item, len(data.items)) for item in case.history]
        liked[i, first:] = case.liked
    context = {
        name: np.asarray([_value(column.vocabulary, row, name) for row in rows])
        for name, column in data.context.items()
    }
    return Samples(
        user=np.asarray([case.user for case in cases]),
        item=np.asarray([known(case.target, len(data.items)) for case in cases]),
        label=np.ones(n),
        row=np.full(n, UNKNOWN),
        history=history,
        history_label=liked,
        history_row=np.full((n, width), UNKNOWN),
        context=context,
    )


def _value(vocabulary: tuple[str, ...], row: dict[str, Any], name: str) -> int:
    value = str(row.get("context", {}).get(name))
    return vocabulary.index(value) if value in vocabulary else UNKNOWN


def _reloaded(
    settings: LLMSettings,
    data: Interactions,
    tables: dict[str, Tensor],
    out: Path,
    bars: Bars,
    *,
    titles: Sequence[str] | None = None,
) -> tuple[Any, Writer, Scorer]:
    full = out / "model"
    bars(f"reading {settings.model}", None)
    name = str(full) if full.is_dir() else settings.model
    llm, tokenizer = load_pretrained(name, pick_dtype(settings.dtype))
    if torch.cuda.is_available():
        llm = llm.to("cuda")
    model = reload(llm, settings, tables, out)
    known = data.titled() if titles is None else titles
    writer = Writer(settings, tokenizer, known, window_of(llm))
    alone = settings.score == "yes"
    scorer = Scorer(
        writer.words, tokenizer.pad_token_id, yes_alone=alone, batch_size=settings.batch_size
    )
    return model, writer, scorer


def _settings(out: Path) -> LLMSettings:
    read_json(out / "results.json")  # a finished run has them
    return LLMSettings.model_validate(read_json(out / "settings.json"))


def _read(file: Path) -> list[Any]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise RecommendError(f"{file}: expected a JSON object a line ({error})") from error


def _row(row: Any, number: int, settings: LLMSettings) -> dict[str, Any]:
    wanted = {"history", "candidates" if settings.data.candidates else "item"}
    if not isinstance(row, dict) or not wanted <= row.keys():
        got = sorted(row) if isinstance(row, dict) else type(row).__name__  # pyright: ignore[reportUnknownVariableType]
        raise RecommendError(
            f"row {number}: expected an object with {', '.join(sorted(wanted))}, got {got}"
        )
    for key, kind in (("history", list), ("liked", list), ("candidates", list), ("context", dict)):
        if not isinstance(row.get(key, kind()), kind):
            what = "a list" if kind is list else "an object"
            raise RecommendError(f"row {number}: expected {what} as {key}, got {row[key]!r}")
    if "liked" in row and len(row["liked"]) != len(row["history"]):
        raise RecommendError(f"row {number}: expected a like or dislike for each of the history")
    return row


def _same_data(out: Path, data: Interactions) -> None:
    """That codes mean what they meant: vectors are found by them."""
    then = read_json(out / "results.json").get("vocabulary")
    if then is not None and then != data.vocabulary():
        raise RecommendError(
            f"{out}: {data.name} has other users or items, or has them in another order, than when "
            "this run was trained: expected the same source"
        )
