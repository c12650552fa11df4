"""Settings of MACDAE: every repair of the authors' code has a name and can be undone."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["PAPER_CODE", "REPAIRS", "MacdaeSettings"]


class MacdaeSettings(BaseModel):
    """Widths and behaviours; the defaults are the published widths with every repair.

    Attributes:
        kind: of autoencoder: MACDAE; `dae`, one head without attention; `vae`, one Gaussian head.
        heads: K of MACDAE.
        width: of the context z, all heads together.
        embedding: of each field.
        keep: share of the input that corruption leaves.
        epsilon: cosine up to which two heads may agree.
        weight: of the diversity penalty.
        penalty: `hinge` asks for cos ≤ ε and no more; `linear` pushes heads apart for ever.
        target: `detached`: the input to reconstruct is data; `trainable`: the loss may also shrink
            it, down to a collapse.
        reduction: of the reconstruction over an example's numbers; under `sum` the penalty is
            negligible.
        neighbours: lists of the training rows, or of `all` rows: that leaks the test.
        own: whether a user's list holds the very target in training, as it never does in test.
        features: `context`: explicit context, time and side features are part of the input;
            `ids`: users, items and neighbours alone.
        schedule: `joint`: after pretraining, recommender's loss + `share` × reconstruction, the
            loss of the abstract; `pretrain`: afterwards the recommender's loss alone.
        share: of the reconstruction in the joint loss.
        join: z `concat`enated to the deep input, or in `replace` of it.
        epochs: of pretraining on positives; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["macdae", "dae", "vae"] = "macdae"
    heads: int = Field(default=4, ge=1)
    width: int = Field(default=256, ge=1)
    embedding: int = Field(default=64, ge=1)
    keep: float = Field(default=0.95, gt=0, le=1)
    epsilon: float = Field(default=0.75, ge=-1, le=1)
    weight: float = Field(default=0.005, ge=0)
    penalty: Literal["linear", "hinge"] = "hinge"
    target: Literal["trainable", "detached"] = "detached"
    reduction: Literal["sum", "mean"] = "mean"
    neighbours: Literal["all", "train"] = "train"
    own: Literal["kept", "left-out"] = "left-out"
    features: Literal["ids", "context"] = "context"
    schedule: Literal["pretrain", "joint"] = "joint"
    share: float = Field(default=1.0, ge=0)
    join: Literal["replace", "concat"] = "concat"
    epochs: int = Field(default=5, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> "MacdaeSettings":
        if self.kind == "macdae" and self.width % self.heads:
            raise ValueError(f"width {self.width} can't be shared by {self.heads} heads")
        return self


REPAIRS: dict[str, dict[str, Any]] = {
    "hinge": {"penalty": "linear"},
    "detached target": {"target": "trainable"},
    "mean reduction": {"reduction": "sum"},
    "train-only neighbours": {"neighbours": "all"},
    "own target left out": {"own": "kept"},
    "time and context": {"features": "ids"},
    "joint loss": {"schedule": "pretrain"},
    "beside, not instead of": {"join": "replace"},
}
"""Each repair, and the setting that undoes it."""

PAPER_CODE = MacdaeSettings.model_validate(
    {name: value for undone in REPAIRS.values() for name, value in undone.items()}
)
"""As the authors' public code does it: all repairs undone."""
