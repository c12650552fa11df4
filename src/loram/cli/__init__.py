"""The `loram` command: thin verbs over the library.

loram train --method loram --lr 2e-4 --out runs/first
loram export runs/first/adapter plain
loram run -- accelerate launch train.py
"""

import logging
import sys
import warnings
from typing import Annotated

import typer
from pydantic import ValidationError

from loram._version import __version__
from loram.bench import BenchError
from loram.checkpoints import CheckpointError
from loram.cli.benchmarks import bench
from loram.cli.machine import demo, env, run_with
from loram.cli.magnitude import diagnose, equivalents, figures
from loram.cli.studies import compare, report
from loram.cli.terminal import app, complain, console
from loram.cli.training import export, init, methods, tasks, train
from loram.cli.vision import dreambooth
from loram.diagnose import DiagnoseError
from loram.figures import FigureError
from loram.peft import LoramError
from loram.recommend import cli as recommend
from loram.recommend.errors import RecommendError
from loram.study.errors import StudyError
from loram.study.report.errors import ReportError
from loram.tasks import DataError
from loram.tasks.programs.sandbox import SandboxError
from loram.train.model import ModelError
from loram.train.run import RunError
from loram.train.smollm2 import EmbeddedModelError
from loram.vision.errors import VisionError

__all__ = ["app", "main"]

# Mistakes of a user, whose message says what to do: no traceback.
USER_ERRORS = (
    *(LoramError, DataError, DiagnoseError, FigureError, ModelError, EmbeddedModelError, RunError),
    *(BenchError, CheckpointError, RecommendError, ReportError, SandboxError, StudyError),
    VisionError,
)

# In the order of `loram --help`.
for verb in (train, methods, tasks, init, export, diagnose, equivalents, figures):
    app.command()(verb)
for verb in (compare, report):
    app.command()(verb)
app.command()(dreambooth)
app.add_typer(recommend.app)
app.command()(bench)
app.command()(demo)
app.command()(env)
# The first word that is not an option of ours starts the command, with or without `--`.
app.command("run", context_settings={"allow_interspersed_args": False})(run_with)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """LoRA that starts at the right magnitude."""
    if show:
        console.print(f"loram {__version__}", highlight=False)
        raise typer.Exit


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a bug, 2 a user's mistake, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # PEFT asks Transformers for this by its old name: nothing a user can do about.
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    try:
        app(standalone_mode=True)
    except ValidationError as error:
        for problem in error.errors():
            name = "--" + ".".join(map(str, problem["loc"])).replace("_", "-")
            complain(
                f"{name}: {problem['msg'].removeprefix('Value error, ')}, got {problem['input']!r}"
            )
        sys.exit(2)
    except USER_ERRORS as error:
        complain(str(error))
        sys.exit(2)
