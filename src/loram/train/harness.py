"""A model judged by lm-evaluation-harness, to be comparable with numbers of other papers.

    >>> judged = judge_by_harness(model, tokenizer, ["arc_easy"], limit=100)
    >>> judged["arc_easy"]["acc,none"]

The harness is an extra: `pip install lm-eval`. It reads its tasks' data from the hub; `folder` is
one with YAML files of your own tasks. The harness has its own prompts and rules: its figures are
not those of `loram.tasks`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["HarnessError", "judge_by_harness"]


class HarnessError(RuntimeError):
    """The harness is not installed, or knows no such task."""


def judge_by_harness(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    few_shot: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Metrics of every task, by the harness's names, such as `acc,none` and `acc_stderr,none`.

    Args:
        model: causal language model, with or without an adapter; left in the mode it was in.
        tokenizer: its tokenizer.
        tasks: names that the harness knows, or that stand in `folder`.
        folder: with YAML files of tasks.
        few_shot: examples in the prompt; the task's own number if None.
        limit: questions of each task; all if None.
        batch_size: of the harness.
        seed: of its draws.

    Raises:
        HarnessError: lm-eval is missing, a task is unknown, or its data can't be read.
    """
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise HarnessError(
            f"tasks of lm-evaluation-harness need its package ({error}): pip install lm-eval"
        ) from error
    manager: Any = TaskManager(include_path=None if folder is None else str(folder))
    unknown = sorted({*tasks} - {*manager.all_tasks})
    if unknown or not tasks:
        raise HarnessError(
            f"expected tasks that lm-eval {lm_eval.__version__} or {folder} knows, got "
            f"{', '.join(unknown) or 'none'}; `lm-eval ls tasks` lists them"
        )
    was_training = model.training
    model.eval()
    try:
        found: Any = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=list(tasks),
            task_manager=manager,
            num_fewshot=few_shot,
            limit=limit,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            bootstrap_iters=0,
            log_samples=False,
        )
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HarnessError(f"lm-eval could not judge {', '.join(tasks)}: {first}") from error
    finally:
        model.train(was_training)
    return {
        name: {key: float(value) for key, value in metrics.items() if _is_number(value)}
        for name, metrics in found["results"].items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
