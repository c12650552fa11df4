"""Kill −9 a 12-run study ten times at random moments: do its numbers stay the same?

    python bench/study_kill.py [--kills 10] [--workers 1] [--tuned]

At two fixed rates, or a sweep of four whose best are run with all seeds. The model is a random
Llama of width 32. Workers die with a killed study; the same command goes on. Prints every kill, and
how many records differ from an undisturbed study (times apart).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
TIMES = ("init_seconds", "train_seconds", "wall_seconds", "peak_memory_bytes")
FIXED = {"recipe": {"lrs": [1e-3, 1e-2]}}
TUNED = {"lrs": {"low": 1e-4, "high": 1e-1, "per_decade": 1}, "tuning_seeds": [0], "extend": 0}


def write_study(
    folder: Path, *, seeds: int = 3, steps: int = 30, rates: Mapping[str, Any] = FIXED
) -> Path:
    """A tiny model, data, and a study of methods × rates × seeds on it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from conftest import make_tokenizer

    tokenizer = make_tokenizer()
    model = folder / "model"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    base = {
        **{"model": str(model), "data": "wordmath", "train_size": 60, "dtype": "float32"},
        **{"steps": steps, "save_every": 5, "batch_size": 2, "dropout": 0.1, "max_length": 256},
        **{"held_out_size": 8, "validation_size": 8, "judge_every": 10},
    }
    study = {
        **{"name": "kills", "base": base, "tasks": ["answers"], "methods": ["lora", "loram"]},
        **{"ranks": [4], "seeds": list(range(seeds)), **rates},
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    return file


def command(study: Path, out: Path, workers: int) -> list[str]:
    asked = ["compare", str(study), "--out", str(out), "--workers", str(workers)]
    return [sys.executable, "-m", "loram", *asked]


def numbers(out: Path) -> dict[str, dict[str, object]]:
    """Records by key, without what a clock says."""
    found: dict[str, dict[str, object]] = {}
    for file in (out / "runs").glob("*/record.json"):
        record = {k: v for k, v in json.loads(file.read_text()).items() if k not in TIMES}
        record["curve"] = [[step, metrics] for step, _, metrics in record["curve"]]
        found[record["key"]] = record
    return found


def seconds(out: Path) -> list[float]:
    """Of each run."""
    files = (out / "runs").glob("*/record.json")
    return [json.loads(file.read_text())["wall_seconds"] for file in files]


def taken(out: Path, since: float) -> bool:
    """Whether a worker took a run after this time: it then opened its lock."""
    locks = [file for file in (out / "locks").glob("*") if file.name != "plan"]
    return any(file.stat().st_mtime > since for file in locks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tuned", action="store_true")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = write_study(folder, rates=TUNED if given.tuned else FIXED)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command(study, folder / "whole", 1), check=True, **quiet)
        # The first run of a worker is the longest: it loads what the others find loaded.
        times = seconds(folder / "whole")
        most = max(times) + 1.5 * median(times)
        killed = folder / "killed"
        for kill in range(given.kills):
            since = time.time()
            process = subprocess.Popen(
                command(study, killed, given.workers), start_new_session=True, **quiet
            )
            # From the moment a worker takes a run: else most kills would hit the imports.
            while process.poll() is None and not taken(killed, since):
                time.sleep(0.05)
            time.sleep(rng.uniform(0, most))
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"kill {kill + 1}: {len(numbers(killed))} records, {'late' if ended else 'hit'}")
        subprocess.run(command(study, killed, given.workers), check=True, **quiet)
        expected, got = numbers(folder / "whole"), numbers(killed)
    differ = [key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key)]
    for key in differ:
        one, other = expected.get(key, {}), got.get(key, {})
        fields = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        print(f"{key[:16]} differs in {', '.join(sorted(fields))}")
    print(f"{len(expected)} runs, {len(differ)} differ")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
