"""The encoders of vectors for prompts and gates, by name, and their tables in the run's folder.

An encoder learns from the whole train part of the split, also where the language model is shown few
shots, and never from what is judged.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.recommend.encoders.fit import FitSettings
from loram.recommend.encoders.mf import MF, MF_PLAN, MfSettings, fit_mf
from loram.recommend.encoders.protocol import Encoder
from loram.recommend.encoders.sasrec import SASREC_PLAN, SASRec, SasrecSettings, fit_sasrec
from loram.recommend.errors import RecommendError
from loram.recommend.llm.data import Asked
from loram.recommend.llm.settings import LLMSettings
from loram.recommend.llm.tables import from_encoder, from_file
from loram.recommend.macdae.context import CONTEXT_PLAN, ContextEncoder
from loram.recommend.macdae.settings import MacdaeSettings

__all__ = ["ENCODERS", "Kind", "load_encoder", "tables_of"]

_TABLES = "tables.safetensors"


class Stored(Encoder, Protocol):
    """An encoder that can be written."""

    def save(self, folder: Path) -> None:
        """Write a folder."""
        ...


class Kind(NamedTuple):
    """One encoder.

    Attributes:
        fit: (what to learn from, options, how to train) → fitted.
        load: folder → what was saved there.
        plan: how it trains where the options leave it.
    """

    fit: Any
    load: Any
    plan: FitSettings


def _mf(asked: Asked, options: Mapping[str, Any], training: FitSettings) -> MF:
    settings = MfSettings.model_validate(options)
    return fit_mf(asked.data, asked.learnt, asked.chosen_by.row, settings, training)[0]


def _sasrec(asked: Asked, options: Mapping[str, Any], training: FitSettings) -> SASRec:
    settings = SasrecSettings.model_validate(options)
    return fit_sasrec(asked.data, asked.learnt, asked.chosen_by, settings, training)[0]


def _macdae(asked: Asked, options: Mapping[str, Any], training: FitSettings) -> ContextEncoder:
    settings = MacdaeSettings.model_validate(options)
    return ContextEncoder.fit(asked.data, asked.learnt, settings, training)


ENCODERS: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "mf": Kind(_mf, MF.load, MF_PLAN),
        "sasrec": Kind(_sasrec, SASRec.load, SASREC_PLAN),
        "macdae": Kind(_macdae, ContextEncoder.load, CONTEXT_PLAN),
    }
)


def tables_of(settings: LLMSettings, asked: Asked, out: Path) -> dict[str, Tensor]:
    """Vectors by kind for every case of a run; read from its folder where they are there.

    Raises:
        RecommendError: wrong options, a damaged file, or vectors that do not fit the data.
    """
    of = settings.encoder
    file = out / _TABLES
    if of.name == "none":
        return {}
    if file.exists():
        try:
            return load_file(file)
        except SafetensorError as error:
            raise RecommendError(f"{file} is damaged ({error}): remove it") from error
    if of.name == "file":
        if set(of.options) != {"path"}:
            raise RecommendError(f"encoder file: expected the option path alone, got {of.options}")
        tables = from_file(Path(of.options["path"]), asked.data)
    else:
        options = dict(of.options)
        given = options.pop("training", {})
        kind = ENCODERS[of.name]
        try:
            changed = FitSettings.model_validate(given).model_dump(exclude_unset=True)
            training = kind.plan.model_copy(update=changed)
            encoder = cast(Stored, kind.fit(asked, options, training))
        except ValidationError as error:
            raise RecommendError(f"encoder {of.name}: {error}") from error
        shutil.rmtree(out / "encoder", ignore_errors=True)  # of a run that was killed here
        encoder.save(out / "encoder")
        parts = (asked.train.samples, asked.valid.samples, asked.test.samples)
        tables = from_encoder(encoder, asked.data, parts)
    staging = out / f".{_TABLES}.part"
    save_file({name: table.contiguous() for name, table in tables.items()}, staging)
    staging.rename(file)
    return tables


def load_encoder(settings: LLMSettings, out: Path) -> Encoder | None:
    """The encoder of a finished run, for new cases; None where it has none of its own."""
    kind = ENCODERS.get(settings.encoder.name)
    return None if kind is None else kind.load(out / "encoder")
