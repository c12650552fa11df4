"""`loram init` on a synthetic sharded checkpoint of LLaMA-2's shapes: time against a plain read of
the files, and peak memory above the interpreter.

python bench/stream.py [--gib 8] [--rounds 3] [--keep]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from loram.bench.paired import seconds
from loram.bench.table import RUNS, report

GIB = 1 << 30
WIDTH, INNER, VOCABULARY = 4096, 11008, 32000
PIECE = 4 << 20  # bytes read at a time, as loram does
LAYERS_A_SHARD = 4

# What a child runs: it says its own seconds and its peak memory (of this program alone: ru_maxrss
# would also count the parent, which it was forked from).
CHILD = """
import json, sys, time
began = time.perf_counter()
{work}
spent = time.perf_counter() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("\\n" + json.dumps({{"seconds": spent, "peak": int(status["VmHWM"].split()[0]) << 10}}))
"""
WORKS = {
    "interpreter": "pass",
    "imports": "import loram.cli, loram.peft.streaming",
    "init": (
        "import loram.cli, loram.peft.streaming\n"
        "began = time.perf_counter()\n"
        "loram.cli.app(sys.argv[1:], standalone_mode=False)"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint there")
    options = parser.parse_args()
    folder = RUNS / f"checkpoint-{options.gib:g}gib"
    if not (folder / "config.json").is_file():
        make(folder, options.gib)
    try:
        measure(folder, options.rank, options.rounds)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def make(folder: Path, gib: float) -> None:
    """Random bfloat16 weights, the same block of 2²⁴ numbers scaled anew for every tensor."""
    import torch
    from safetensors.torch import save_file
    from torch import Tensor
    from transformers import LlamaConfig

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    block = torch.randn(1 << 24).to(torch.bfloat16)

    def weight(n: int, m: int) -> Tensor:
        scale = 0.01 + 0.02 * float(torch.rand(()))
        return (block.repeat(-(-n * m // len(block)))[: n * m] * scale).view(n, m)

    ends = 2 * 2 * VOCABULARY * WIDTH
    layer = 2 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    count = max(1, round((gib * GIB - ends) / layer))
    config = LlamaConfig(
        num_hidden_layers=count, architectures=["LlamaForCausalLM"], dtype="bfloat16"
    )
    weight_map: dict[str, str] = {}
    shapes = {
        **{f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"},
        **{f"mlp.{name}_proj": (INNER, WIDTH) for name in ("gate", "up")},
        "mlp.down_proj": (WIDTH, INNER),
    }
    number = -(-count // LAYERS_A_SHARD) + 1
    for i in range(number):
        shard: dict[str, Tensor] = {}
        for k in range(i * LAYERS_A_SHARD, min(count, (i + 1) * LAYERS_A_SHARD)):
            for name, shape in shapes.items():
                shard[f"model.layers.{k}.{name}.weight"] = weight(*shape)
            for name in ("input_layernorm", "post_attention_layernorm"):
                shard[f"model.layers.{k}.{name}.weight"] = torch.ones(WIDTH, dtype=torch.bfloat16)
        if i == number - 1:
            shard["model.embed_tokens.weight"] = weight(VOCABULARY, WIDTH)
            shard["lm_head.weight"] = weight(VOCABULARY, WIDTH)
            shard["model.norm.weight"] = torch.ones(WIDTH, dtype=torch.bfloat16)
        file = f"model-{i + 1:05}-of-{number:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    os.sync()  # what is not on the disk yet can't be dropped from the cache


def measure(folder: Path, rank: int, count: int) -> None:
    files = sorted(folder.glob("*.safetensors"))
    whole = sum(file.stat().st_size for file in files)
    with tempfile.TemporaryDirectory() as scratch:
        bare, imports = (child(name) for name in ("interpreter", "imports"))
        rows: list[dict[str, object]] = []
        for cache, before in {"warm": lambda: None, "cold": lambda: drop(files)}.items():
            read(files)  # or the first round would be colder than the rest
            reads: list[float] = []
            inits: list[dict[str, float]] = []
            for turn in range(count):
                reads.append(timed(before, lambda: read(files)))
                before()
                out = f"{scratch}/{cache}{turn}"
                inits.append(child("init", "init", str(folder), "--rank", str(rank), "--out", out))
            adapter = Path(out, "adapter_model.safetensors").stat().st_size
            used = whole - 2 * 2 * VOCABULARY * WIDTH  # neither embeddings nor head are targets
            speeds = [
                (used / one["seconds"]) / (whole / other)
                for one, other in zip(inits, reads, strict=True)
            ]
            rows.append(
                {
                    "page cache": cache,
                    "checkpoint (GB)": whole / 1e9,
                    "plain read (s)": statistics.median(reads),
                    "loram init (s)": statistics.median(one["seconds"] for one in inits),
                    "init over read, bytes/s": statistics.median(speeds),
                    "least": min(speeds),
                    "most": max(speeds),
                    "peak above bare Python (GiB)": (
                        max(one["peak"] for one in inits) - bare["peak"]
                    )
                    / GIB,
                    "above the imports (GiB)": (max(one["peak"] for one in inits) - imports["peak"])
                    / GIB,
                    "adapter (MB)": adapter / 1e6,
                }
            )
    report(
        "stream",
        f"loram init, {folder.name}, bfloat16, all linear, r {rank}, {count} rounds; imports "
        f"alone {imports['seconds']:.1f} s",
        rows,
    )


def child(name: str, *arguments: str) -> dict[str, float]:
    """Run a work in a Python of its own."""
    code = CHILD.format(work=WORKS[name])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def timed(before: Callable[[], None], work: Callable[[], None]) -> float:
    before()
    return seconds(work)


def read(files: list[Path]) -> None:
    """Every byte, into one buffer."""
    buffer = memoryview(bytearray(PIECE))
    for file in files:
        with file.open("rb", buffering=0) as held:
            while held.readinto(buffer):
                pass


def drop(files: list[Path]) -> None:
    """Ask the kernel to forget the files, which it does with clean pages."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main()
