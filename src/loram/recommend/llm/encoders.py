"""The encoders of vectors for prompts and gates, by name, and their tables in the run's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.recommend.encoders.protocol import Encoder
from loram.recommend.errors import RecommendError
from loram.recommend.llm.data import Asked
from loram.recommend.llm.settings import LLMSettings
from loram.recommend.llm.tables import from_encoder, from_file

__all__ = ["ENCODERS", "tables_of"]

Fit = Callable[[Asked, Mapping[str, Any], int], Encoder]
"""(what to learn from, options, seed) → fitted."""


def _mf(asked: Asked, options: Mapping[str, Any], seed: int) -> Encoder:
    raise NotImplementedError


ENCODERS: MappingProxyType[str, Fit] = MappingProxyType({"mf": _mf})


def tables_of(settings: LLMSettings, asked: Asked, out: Path) -> dict[str, Tensor]:
    """Vectors by kind for every case of a run; read from its folder where they are there.

    Raises:
        RecommendError: wrong options, a damaged file, or vectors that do not fit the data.
    """
    of = settings.encoder
    file = out / "tables.safetensors"
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
        try:
            encoder = ENCODERS[of.name](asked, of.options, settings.seed)
        except (ValidationError, TypeError) as error:
            raise RecommendError(f"encoder {of.name}: {error}") from error
        parts = (asked.train.samples, asked.valid.samples, asked.test.samples)
        tables = from_encoder(encoder, asked.data, parts)
    staging = out / f".{file.name}.part"
    save_file({name: table.contiguous() for name, table in tables.items()}, staging)
    staging.rename(file)
    return tables
