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
from loram.recommend.encoders.mf import MF, MfSettings, fit_mf
from loram.recommend.encoders.protocol import Encoder
from loram.recommend.encoders.sasrec import SASRec, SasrecSettings, fit_sasrec
from loram.recommend.errors import RecommendError
from loram.recommend.llm.data import Asked
from loram.recommend.llm.settings import LLMSettings
from loram.recommend.llm.tables import from_encoder, from_file
from loram.recommend.macdae.context import ContextEncoder
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
        fit: (what to learn from, options, how to train or None) → fitted.
        load: folder → what was saved there.
    """

    fit: Any
    load: Any


def _mf(asked: Asked, options: Mapping[str, Any], training: FitSettings | None) -> MF:
    settings = MfSettings.model_validate(options)
    return fit_mf(asked.data, asked.learnt, asked.chosen_by.row, settings, training)[0]


def _sasrec(asked: Asked, options: Mapping[str, Any], training: FitSettings | None) -> SASRec:
    settings = SasrecSettings.model_validate(options)
    return fit_sasrec(asked.data, asked.learnt, asked.chosen_by, settings, training)[0]


def _macdae(
    asked: Asked, options: Mapping[str, Any], training: FitSettings | None
) -> ContextEncoder:
    settings = MacdaeSettings.model_validate(options)
    return ContextEncoder.fit(asked.data, asked.learnt, settings, training)


ENCODERS: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "mf": Kind(_mf, MF.load),
        "sasrec": Kind(_sasrec, SASRec.load),
        "macdae": Kind(_macdae, ContextEncoder.load),
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
        given = options.pop("training", None)
        try:
            training = None if given is None else FitSettings.model_validate(given)
            encoder = cast(Stored, ENCODERS[of.name].fit(asked, options, training))
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
