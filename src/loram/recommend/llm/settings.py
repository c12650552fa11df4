"""Everything that decides the result of an LLM recommender: one YAML file, all problems at once."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from loram.methods import Method
from loram.recommend.errors import RecommendError
from loram.recommend.llm.projector import Shape
from loram.recommend.llm.prompt import PromptError, Template
from loram.recommend.llm.schedule import Stage
from loram.recommend.reading import Columns
from loram.train.settings import TrainSettings

__all__ = [
    "AdapterOf",
    "DataOf",
    "EncoderOf",
    "LLMSettings",
    "PromptOf",
    "method_row",
    "published",
    "read_yaml",
]

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


def method_row(name: str) -> Method:
    """A row of the methods table, or one made of LoRAM's options; ValueError if neither."""
    return TrainSettings.model_validate({"method": name}).row


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataOf(_Strict):
    """Which interactions, and how they are cut."""

    source: str = Field("ml-100k", description="a data set of the recbole wheel, or a path")
    columns: Columns = Field(Columns(), description="which column is what, of a CSV or the like")
    like_above: float | None = Field(
        None, description="a rating above it is a like, also where there are labels; else 3"
    )
    split: Literal["tallrec", "sequences", "temporal", "global", "leave-one-out"] = "tallrec"
    shares: tuple[float, float, float] = Field((8, 1, 1), description="of train, valid and test")
    sizes: tuple[Positive, Positive, Positive] = Field(
        (8000, 1000, 1000), description="of TALLRec's split"
    )
    history: Positive = Field(10, description="items at most")
    liked_only: bool = Field(False, description="only liked items are history")
    shots: int | None = Field(None, ge=1, description="training samples drawn; all by default")
    valid: int | None = Field(None, ge=1, description="validation samples drawn; all by default")
    test: int | None = Field(None, ge=1, description="test samples drawn; all by default")
    candidates: int = Field(0, description="to rank, the target among them; 0: yes or no")

    @field_validator("shares")
    @classmethod
    def _are_shares(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or not value[0] or not value[2]:
            raise ValueError("expected shares of train, valid and test, of valid alone perhaps 0")
        return value

    @field_validator("candidates")
    @classmethod
    def _two_or_none(cls, value: int) -> int:
        if value < 0 or value == 1:
            raise ValueError("expected 0, or 2 and more to choose from")
        return value


class EncoderOf(_Strict):
    """Where vectors come from."""

    name: Literal["none", "mf", "sasrec", "macdae", "file"] = "none"
    options: dict[str, Any] = Field({}, description="of its fit; for file: path")


class PromptOf(_Strict):
    """How a case is written."""

    text: str = Field(description="of text prompts; see loram.recommend.llm.prompt for the fields")
    item: str = '"{title}"'
    candidate: str | None = Field(None, description="by default as item")
    hybrid: str | None = Field(None, description="of prompts with slots; by default as text")
    hybrid_item: str | None = Field(None, description="by default as item")
    hybrid_candidate: str | None = Field(None, description="by default as hybrid_item")
    separator: str = ", "
    nothing: str = "None"
    max_length: Positive = Field(1024, description="tokens; the oldest history is dropped first")

    @model_validator(mode="after")
    def _known_fields(self) -> "PromptOf":
        for template in (self.text_template, self.hybrid_template):
            try:
                template.check()
            except PromptError as error:
                raise ValueError(str(error)) from error
        if self.text_template.kinds():
            raise ValueError("text prompts have no slots: write them in hybrid and hybrid_item")
        return self

    @property
    def text_template(self) -> Template:
        """Of text prompts."""
        candidate = self.candidate or self.item
        return Template(self.text, self.item, candidate, self.separator, self.nothing)

    @property
    def hybrid_template(self) -> Template:
        """Of prompts with slots."""
        item = self.hybrid_item or self.item
        candidate = self.hybrid_candidate or self.hybrid_item or self.candidate or self.item
        text = self.hybrid or self.text
        return Template(text, item, candidate, self.separator, self.nothing)


class AdapterOf(_Strict):
    """What is put on the language model: a row of the methods table, under gates or not."""

    method: str = "loram"
    rank: Positive = 8
    alpha: Rate = 16
    rslora: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str = "all-linear"
    experts: Positive = Field(1, description="more than one: gated LoRA, rank/experts each")
    gate: Literal["sequence", "context"] = Field("sequence", description="what the router reads")
    router_lr: Rate = Field(0.3, description="learning rate of the router over that of the adapter")

    @model_validator(mode="after")
    def _gateable(self) -> "AdapterOf":
        row = method_row(self.method)
        if self.experts > 1 and (row.init is None or row.base != "kept"):
            raise ValueError(
                f"{self.method} changes the base, and gates would not undo it alike for all: "
                "expected "
                "a method that keeps the base, such as lora or loram"
            )
        if self.rank % self.experts:
            raise ValueError(f"expected a rank that {self.experts} experts divide, got {self.rank}")
        return self


class LLMSettings(_Strict):
    """One LLM recommender."""

    name: str = Field(description="in tables")
    paper: str = Field("-", description="arXiv id")
    extension: bool = Field(False, description="this project's own, not of a paper")
    model: str = Field("smollm2", description="hub id, folder, or the embedded smollm2")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    data: DataOf = DataOf.model_validate({})
    encoder: EncoderOf = EncoderOf.model_validate({})
    projector: Shape = "collm"
    adapter: AdapterOf = AdapterOf.model_validate({})
    prompt: PromptOf
    words: tuple[str, str] = Field(("Yes", "No"), description="one token each")
    answer_end: str = Field("", description="written after the word, before the end token")
    loss: Literal["answer", "yes"] = Field(
        "answer", description="cross-entropy of the answer, or BCE on the Yes logit"
    )
    score: Literal["words", "yes"] = Field(
        "words", description="softmax over Yes and No, or the sigmoid of the Yes logit"
    )
    stages: tuple[Stage, ...] = Field((Stage.model_validate({}),), min_length=1)
    batch_size: Positive = Field(16, description="examples a step")
    micro_batch: int | None = Field(None, ge=1, description="examples at a time; all by default")
    lr: Rate = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(1.0, description="0 for no clipping")
    judge_every: int | None = Field(None, ge=1, description="steps; by default every epoch")
    save_every: Positive = Field(20, description="steps between checkpoints")
    resamples: Positive = Field(1000, description="bootstrap draws of users, for intervals")
    controls: tuple[Literal["shuffled", "zeroed"], ...] = ("shuffled", "zeroed")
    published: dict[str, dict[str, float]] = Field(
        {}, description="figures of papers, to print beside: name, then metric"
    )
    written: bool = Field(False, description="also let it write its choice: ValidRatio and HR@1")
    max_new_tokens: Positive = 32
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fits_together(self) -> "LLMSettings":
        problems: list[str] = []
        asked = self.prompt.hybrid_template.kinds()
        trains = {part for stage in self.stages for part in stage.trains}
        if self.is_hybrid and not asked:
            problems.append("a stage has prompts with slots, and the prompt has none: write hybrid")
        if (asked or self.adapter.experts > 1) and self.encoder.name == "none":
            problems.append("slots and gates need vectors: name an encoder")
        if ("router" in trains) != (self.adapter.experts > 1):
            problems.append("a router belongs to an adapter of several experts, and to no other")
        if self.data.split == "tallrec" and self.data.liked_only:
            problems.append("TALLRec's windows are of all items: liked_only goes with other splits")
        if self.written and not self.data.candidates:
            problems.append("written answers are judged among candidates: set data.candidates")
        if self.data.candidates and self.loss == "yes":
            problems.append("loss yes is of a yes or no: with candidates use loss answer")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def is_hybrid(self) -> bool:
        """Whether the finished model reads prompts with slots."""
        return self.stages[-1].prompts != "text"


def published(name: str) -> Path | None:
    """A YAML file of the package by its name, such as `tallrec` or `collm-mf-small`; None if none.

    Those without `-small` have the settings of the papers.
    """
    file = resources.files("loram.recommend.llm") / "configs" / f"{name}.yaml"
    return Path(str(file)) if file.is_file() else None


def read_yaml(source: str | Path, changes: list[str] | None = None) -> LLMSettings:
    """Settings from a YAML file, or from one of the package by its name.

    Args:
        source: a path, or a name as `published` takes it.
        changes: `key=value` each, with dots into sections: `data.shots=64`, values as in YAML.

    Raises:
        RecommendError: no such file, not YAML, or settings that are wrong, all of them.
    """
    found = Path(source) if Path(source).is_file() else published(str(source))
    if found is None:
        folder = resources.files("loram.recommend.llm") / "configs"
        names = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir())
        raise RecommendError(f"no file {source}: expected a path, or one of {', '.join(names)}")
    try:
        values: Any = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecommendError(f"{found}: expected YAML ({error})") from error
    if not isinstance(values, dict):
        raise RecommendError(f"{found}: expected settings by name, got {type(values).__name__}")
    tree = cast(dict[str, Any], values)
    for change in changes or ():
        _change(tree, change)
    try:
        return LLMSettings.model_validate(tree)
    except ValidationError as error:
        found_problems = "\n".join(
            f"  {'.'.join(map(str, p['loc'])) or 'settings'}: "
            f"{p['msg'].removeprefix('Value error, ')}"
            for p in error.errors()
        )
        raise RecommendError(f"{found}:\n{found_problems}") from error


def _change(tree: dict[str, Any], change: str) -> None:
    path, equals, raw = change.partition("=")
    *sections, last = path.strip().split(".")
    place: Any = tree
    for section in sections:
        place = place.setdefault(section, {}) if isinstance(place, dict) else None
    if not equals or not last or not isinstance(place, dict):
        raise RecommendError(f"expected key=value such as data.shots=64, got {change!r}")
    try:
        place[last] = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise RecommendError(f"{change!r}: expected a value as in YAML ({error})") from error
