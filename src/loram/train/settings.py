"""Everything that decides the result of a training run."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from loram.methods import Method, custom, named
from loram.tasks.table import named as task_named
from loram.tasks.task import Task
from loram.train.encode import Prompt

__all__ = ["TrainSettings"]

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class TrainSettings(BaseModel):
    """One fine-tuning run; all problems of its values are reported together.

    The defaults are the paper's kind of recipe (AdamW, cosine, s = 1, no decay) at the size of two
    CPU cores.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str = Field("answers", description="a row of the command tasks, such as glue/mrpc")
    model: str = Field(
        "smollm2",
        description="hub id, folder, or an embedded one: smollm2, minilm, smollm2-lite0 (sees)",
    )
    data: str | None = Field(
        None,
        description="hub id, JSONL file or folder, or wordmath; by default the task's own",
    )
    data_config: str | None = Field(None, description="configuration of a hub data set")
    method: str = Field(
        "loram",
        description="a row of the command methods, or LoRAM with options: "
        "'loram(gain=0.5, basis=etf)'",
    )
    rank: Positive = Field(16, description="r")
    alpha: float | None = Field(None, gt=0, description="lora_alpha; by default r, so that s = 1")
    rslora: bool = Field(False, description="s = alpha / sqrt(r), whatever the method says")
    lr_ratio: float | None = Field(
        None, gt=0, description="learning rate of B over that of A; by default the method's"
    )
    calibrate_on: Positive = Field(
        32, description="training examples that a data-driven method starts from"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="on the adapter's input")
    target_modules: str = Field("all-linear", description="all-linear, or names joined by commas")
    lr: Annotated[float, Field(gt=0)] = Field(2e-4, description="peak learning rate")
    head_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of a classifier's head or a seeing model's projector; as lr",
    )
    steps: Positive = Field(40, description="optimiser steps")
    batch_size: Positive = Field(8, description="examples a step")
    accumulate: Positive = Field(1, description="batches a step is made of")
    group_by_length: bool = Field(
        False, description="batches of examples of like length: less padding, another order"
    )
    warmup_steps: NotNegative = Field(3, description="linear from 0")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="after warm-up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(1.0, description="0 for no clipping")
    seed: NotNegative = Field(
        0, description="of the order of the data, random factors and a new head"
    )
    data_seed: NotNegative = Field(0, description="of the draw of the data, for every seed alike")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the base: bfloat16 where the machine multiplies it natively"
    )
    prompt: Prompt = Field("auto", description="chat template, or plain Question / Answer")
    max_length: Positive = Field(512, description="tokens of an example")
    skip_bad_images: bool = Field(False, description="leave out rows whose image can't be read")
    train_size: int | None = Field(None, ge=1, description="training examples; all by default")
    validation_size: NotNegative = Field(0, description="examples to tune on, never trained on")
    held_out_size: int | None = Field(
        None, ge=1, description="test examples; by default all, of answers 128"
    )
    answers: NotNegative = Field(0, description="held-out questions to answer, for exact match")
    max_new_tokens: Positive = Field(192, description="of a written answer")
    run_generated_code: bool = Field(
        False,
        description="let programs the model writes run here, in a sandbox, to be judged",
        validate_default=True,
    )
    samples: Positive = Field(1, description="programs for a problem; one is the greedy one")
    temperature: Annotated[float, Field(gt=0)] = Field(0.8, description="of several samples")
    program_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="that a program and its tests may run"
    )
    judge_every: NotNegative = Field(
        0, description="steps between validations while training; 0 for none"
    )
    save_every: NotNegative = Field(20, description="steps between checkpoints; 0 for none")
    magnitudes_every: NotNegative = Field(
        1, description="steps between lines of magnitudes.jsonl; 0 for the first and the last"
    )
    keep: Literal["adapter", "nothing"] = Field(
        "adapter", description="what is saved of what was trained, beside its numbers"
    )

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        return task_named(value).name

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        _row(value)
        return value

    @field_validator("lr_ratio")
    @classmethod
    def _two_factors(cls, value: float | None, info: ValidationInfo) -> float | None:
        method = info.data.get("method")
        if value is not None and method is not None and _row(method).init is None:
            raise ValueError("full fine-tuning has no factors A and B: leave lr_ratio out")
        return value

    @field_validator("answers")
    @classmethod
    def _enough_questions(cls, value: int, info: ValidationInfo) -> int:
        held_out = info.data.get("held_out_size")
        if held_out is not None and value > held_out:
            raise ValueError(f"expected at most the {held_out} held-out examples")
        return value

    @field_validator("judge_every")
    @classmethod
    def _something_to_judge(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("validation_size") == 0:
            raise ValueError("there is no validation set to judge by: ask for a validation_size")
        return value

    @field_validator("run_generated_code")
    @classmethod
    def _allowed(cls, value: bool, info: ValidationInfo) -> bool:
        if "task" in info.data and not value and task_named(info.data["task"]).kind == "programs":
            raise ValueError(
                "this task runs programs that a model wrote: say that they may run on this machine "
                "(run_generated_code, --run-generated-code), in the sandbox of docs/benchmarks.md"
            )
        return value

    @field_validator("head_lr", "prompt", "answers", "max_new_tokens")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if "task" not in info.data or info.field_name is None:
            return value
        task = task_named(info.data["task"])
        head = info.field_name == "head_lr"
        fits = task.kind in ("labels", "images") if head else task.kind != "labels"
        if value != cls.model_fields[info.field_name].default and not fits:
            raise ValueError(
                f"only for tasks of {'labels or images' if head else 'text'}, and {task.name} is "
                f"one of {task.kind}: leave it out"
            )
        return value

    @property
    def task_row(self) -> Task:
        """The task as a row of the table."""
        return task_named(self.task)

    @property
    def row(self) -> Method:
        """The method as a row of the table."""
        return _row(self.method)

    @property
    def lora_alpha(self) -> float:
        """α, with its default of r."""
        return self.alpha if self.alpha is not None else float(self.rank)


def _row(name: str) -> Method:
    """A row of the table, or one made of a LoRAM string.

    Raises:
        ValueError: neither.
    """
    from loram.peft import parse

    if "(" not in name and name.strip().lower() != "loram_residual":
        return named(name)
    ours = parse(name)
    if ours is None:
        raise ValueError(
            f"expected a row of `loram methods`, or loram(…) or loram_residual(…), got {name!r}"
        )
    return custom(name.strip(), rewrites=ours.is_residual, tracked=ours.tracked)
