"""A study as its YAML file says it: tasks, methods, ranks, learning rates, seeds.

name: rates
base: {model: smollm2, steps: 100, validation_size: 64}
tasks: [{task: answers, data: wordmath}]
methods: [lora, {method: loram, label: "LoRAM + RsLoRA", rslora: true}]
ranks: [8]
lrs: {low: 1.0e-5, high: 1.0e-2, per_decade: 4}
seeds: [0, 1, 2]
"""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from yaml.composer import ComposerError

from loram.study.errors import StudyError
from loram.study.grid import points

__all__ = ["Entry", "MethodEntry", "Rates", "Recipe", "Spec", "TaskEntry", "dump", "parse", "read"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rates(_Closed):
    """The grid every method is tuned on: all 10^(k / per_decade) from low to high."""

    low: Positive
    high: Positive
    per_decade: Annotated[int, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _some(self) -> "Rates":
        if not self.points():
            raise ValueError(
                f"expected a point of the grid 10^(k/{self.per_decade}) from low to high, "
                f"there is none from {self.low:g} to {self.high:g}"
            )
        return self

    def points(self) -> range:
        """The k of the grid."""
        return points(self.low, self.high, self.per_decade)


class Recipe(_Closed):
    """Fixed rates, run beside the sweep for all methods and seeds."""

    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)]


class Entry(_Closed):
    """A task or a method: its name, the label it goes by, settings of its own.

    In YAML the settings stand beside the name; a bare string is a name.
    """

    name: str
    label: str
    settings: dict[str, Any] = {}

    @model_serializer
    def _flat(self) -> str | dict[str, Any]:
        kind = _NAMED_BY[type(self)]
        if self.label == self.name and not self.settings:
            return self.name
        label = {} if self.label == self.name else {"label": self.label}
        return {kind: self.name, **label, **self.settings}


class TaskEntry(Entry):
    """A row of `loram tasks`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return _entry(value, "task")


class MethodEntry(Entry):
    """A row of `loram methods`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return _entry(value, "method")


_NAMED_BY: dict[type[Entry], str] = {TaskEntry: "task", MethodEntry: "method"}


def _entry(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        return {"name": value, "label": value}
    if not isinstance(value, dict) or not isinstance(value.get(kind), str):
        raise ValueError(f"expected a name, or a mapping with `{kind}: name`")
    fields = cast(dict[str, Any], value)
    label = fields.get("label", fields[kind])
    own = {name: each for name, each in fields.items() if name not in (kind, "label")}
    return {"name": fields[kind], "label": label, "settings": own}


class Spec(_Closed):
    """One study.

    Attributes:
        name: of the study.
        base: training settings of all runs.
        tasks: each with settings of its own.
        methods: likewise; these come last.
        pairs: labels of methods that the report compares beside the reference, the first with the
            second, as a family of their own.
        ranks: r.
        lrs: the grid; None for a study at fixed rates only.
        seeds: of the runs that are reported.
        tuning_seeds: of the runs that the rate is chosen by; by default `seeds`.
        recipe: fixed rates beside the sweep.
        extend: how many points a grid may grow on each side.
        workers: runs at a time.
        threads: of each run; numbers depend on it, on `workers` they do not.
        launch: command that starts a run in several processes, such as `accelerate launch
            --multi_gpu --num_processes 4`; numbers depend on it.
        retries: further attempts at a run that failed.
        run_hours: an attempt that takes longer is ended, which counts as one; None for no limit.
        seconds: of a run, for the estimate while none is done.
        keep: `adapters` keeps trained weights.
    """

    name: Annotated[str, Field(min_length=1)]
    base: dict[str, Any] = {}
    tasks: Annotated[tuple[TaskEntry, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1)]
    pairs: tuple[tuple[str, str], ...] = ()
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    lrs: Rates | None = None
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)]
    tuning_seeds: Annotated[tuple[Count, ...], Field(min_length=1, validate_default=True)] = ()
    recipe: Recipe | None = Field(None, validate_default=True)
    extend: Count = 4
    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] = 1
    launch: Annotated[str, Field(min_length=1)] | None = None
    retries: Count = 1
    run_hours: Positive | None = None
    seconds: Positive | None = None
    keep: Literal["nothing", "adapters"] = "nothing"

    @model_validator(mode="before")
    @classmethod
    def _tune_on_seeds(cls, value: Any) -> Any:
        if isinstance(value, dict) and "seeds" in value:
            return {"tuning_seeds": value["seeds"], **value}
        return value

    @field_validator("tasks", "methods")
    @classmethod
    def _distinct_labels(cls, value: tuple[Entry, ...]) -> tuple[Entry, ...]:
        labels = [each.label for each in value]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"expected distinct labels, {', '.join(map(repr, twice))} stands twice: "
                "give one of them `label: another name`"
            )
        return value

    @field_validator("pairs", mode="before")
    @classmethod
    def _no_pairs(cls, value: Any) -> Any:
        return () if value is None else value

    @field_validator("pairs")
    @classmethod
    def _pairs_of_methods(
        cls, value: tuple[tuple[str, str], ...], info: ValidationInfo
    ) -> tuple[tuple[str, str], ...]:
        known = [entry.label for entry in info.data.get("methods", ())]
        for pair in value if known else ():
            for label in pair:
                if label not in known:
                    raise ValueError(
                        f"expected labels of two methods, there is no {label!r} among "
                        f"{', '.join(known)}"
                    )
            if pair[0] == pair[1]:
                raise ValueError(f"expected two methods, {pair[0]!r} stands beside itself")
        if len({frozenset(pair) for pair in value}) < len(value):
            raise ValueError("expected each pair once")
        return value

    @field_validator("ranks", "seeds", "tuning_seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("expected each number once")
        return value

    @field_validator("recipe")
    @classmethod
    def _some_rate(cls, value: Recipe | None, info: ValidationInfo) -> Recipe | None:
        if value is None and "lrs" in info.data and info.data["lrs"] is None:
            raise ValueError("expected `lrs`, `recipe`, or both: there is no learning rate")
        return value


def read(file: Path) -> Spec:
    """The study of a YAML file.

    Raises:
        StudyError: it can't be read, or is no study; all problems of its form at once.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"can't read {file}: expected a YAML file of a study ({error})") from error
    return parse(text, str(file))


def parse(text: str, where: str = "study") -> Spec:
    """The study of a YAML text.

    Raises:
        StudyError: as `read`.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none
        raise StudyError(f"{where}: expected YAML ({error})") from error
    if not isinstance(value, dict):
        raise StudyError(f"{where}: expected a mapping with name, tasks, methods, ranks, seeds")
    try:
        return Spec.model_validate(value)
    except ValidationError as error:
        raise StudyError(f"{where}:\n{_lines(error)}") from error


def dump(spec: Spec) -> str:
    """The study as YAML that `parse` reads back."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _lines(error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors():
        # Entries are what their name and settings make them: `tasks.0`, not `tasks.0.name`.
        where = ".".join(str(part) for part in problem["loc"]) or "study"
        message = problem["msg"].removeprefix("Value error, ")
        shown = "" if problem["type"] == "missing" else f", got {problem['input']!r:.80}"
        lines.append(f"  {where}: {message}{shown}")
    return "\n".join(lines)


class _Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2, where 1e-5 is one, and no key twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: list[str] = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ComposerError(None, None, f"found {twice!r} twice", node.start_mark)
        return node


_Loader.yaml_implicit_resolvers = {
    first: list(rules) for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _number_rule() -> None:
    import re

    _Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


_number_rule()
