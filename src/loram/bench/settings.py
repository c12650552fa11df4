"""What the measurements may be told; each has defaults of its own for what is left out."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["DTYPES", "BenchSettings"]

DTYPES = ("float32", "bfloat16", "float16")
Positive = Annotated[int, Field(ge=1)]


class BenchSettings(BaseModel):
    """Options of `loram bench`, shared by all measurements; all problems are reported together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int | None = Field(None, ge=1, description="that count, after one of warm-up")
    rank: list[int] | None = Field(None, description="r; may be given more than once")
    dtype: list[str] | None = Field(
        None, description="of the base weights, such as bfloat16; may be given more than once"
    )
    shape: list[str] | None = Field(
        None, description="of a layer in init, as 4096x4096 (out x in); more than once"
    )
    only: list[str] | None = Field(
        None, description="rows of init, models or rows of models; may be given more than once"
    )
    model: str = Field("smollm2", description="of step, memory, probe, export, load and serve")
    largest: Positive = Field(16384, description="width at which growth ends")
    slow: bool = Field(False, description="exact SVDs too, PiSSA's and CorDA's: minutes a layer")
    quick: bool = Field(False, description="tiny sizes and a tiny model, to try it out: seconds")
    out: Path = Field(Path("runs/bench"), description="folder of the JSON files")

    @field_validator("rank")
    @classmethod
    def _positive(cls, ranks: list[int] | None) -> list[int] | None:
        if any(rank < 1 for rank in ranks or ()):
            raise ValueError("expected 1 or more")
        return ranks

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, names: list[str] | None) -> list[str] | None:
        for name in names or ():
            if name not in DTYPES:
                raise ValueError(f"expected {', '.join(DTYPES)}")
        return names

    @field_validator("shape")
    @classmethod
    def _is_shape(cls, shapes: list[str] | None) -> list[str] | None:
        for shape in shapes or ():
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", shape):
                raise ValueError("expected out x in, as 11008x4096")
        return shapes

    def count(self, default: int) -> int:
        """Rounds: those asked for, or the measurement's own; with `quick` two."""
        return self.rounds or (2 if self.quick else default)

    def ranks(self, *default: int) -> list[int]:
        """Ranks: those asked for, or the measurement's own; with `quick` 4."""
        return self.rank or ([4] if self.quick else list(default))

    def dtypes(self, *default: str) -> list[str]:
        """Dtypes: those asked for, or the measurement's own."""
        return self.dtype or list(default)

    def shapes(self, *default: tuple[int, int]) -> list[tuple[int, int]]:
        """Shapes (n, m): those asked for, or the measurement's own."""
        if self.shape is None:
            return list(default)
        asked = (shape.split("x") for shape in self.shape)
        return [(int(n), int(m)) for n, m in asked]
