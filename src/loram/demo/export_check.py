"""Proof of an export: the plain adapter, in a process without loram, against the LoRAM one."""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from loram.peft.attach import load_adapter
from loram.peft.export import export_plain
from loram.train.model import load_pretrained, resolve
from loram.train.run import RunError

__all__ = ["Check", "check_export"]

_QUESTIONS = (
    "Maria buys 3 notebooks at $4 each. How much does she pay?",
    "A train travels 60 miles an hour for 3 hours. How far does it get?",
)


@dataclass(frozen=True, slots=True)
class Check:
    """Largest difference of logits, largest logit, and rank of the plain adapter."""

    difference: float
    scale: float
    rank: int


def check_export(adapter: Path, out: Path, console: Console, model: str = "smollm2") -> Check:
    """Export an adapter, reload it elsewhere, and compare logits in float32.

    Raises:
        RunError: the other process failed.
    """
    if out.exists():
        shutil.rmtree(out)
    done = export_plain(adapter, out)
    console.print(f"exporting {adapter} to plain LoRA in {out}", highlight=False, soft_wrap=True)
    base, tokenizer = load_pretrained(model, torch.float32)
    ids = tokenizer(list(_QUESTIONS), return_tensors="pt", padding=True)["input_ids"]
    tuned = load_adapter(base, adapter)
    with torch.no_grad():
        ours = tuned(input_ids=ids).logits
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "ids"), Path(folder, "logits")
        save_file({"ids": ids}, asked)
        script = Path(__file__).with_name("reload_without_loram.py")
        result = subprocess.run(
            [sys.executable, script, resolve(model), out, asked, answered],
            check=False,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            raise RunError(f"reloading the plain adapter failed:\n{result.stderr.strip()[-2000:]}")
        theirs = load_file(answered)["logits"]
    return Check(float((ours - theirs).abs().max()), float(ours.abs().max()), done.rank)
