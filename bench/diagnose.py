"""`loram diagnose` on a large checkpoint: peak memory over the interpreter's, time over reading it.

python bench/diagnose.py [--gib 1] [--dtype bfloat16] [--spectrum randomised]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from loram.bench.paired import ratio, rounds
from loram.bench.table import report
from loram.checkpoints import entries
from loram.diagnose.weights import diagnose_weights

WIDTH = 4096
UNIT = 1024  # ru_maxrss is in KiB on Linux


def checkpoint(file: Path, gib: float, dtype: torch.dtype) -> None:
    count = round(gib * 2**30 / (WIDTH * WIDTH * dtype.itemsize))
    layer = torch.randn(WIDTH, WIDTH).to(dtype)
    save_file({f"layers.{i}.q_proj.weight": layer.clone() for i in range(count)}, file)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def read_whole(file: Path) -> None:
    buffer = bytearray(4 << 20)
    with file.open("rb", buffering=0) as held:
        while held.readinto(buffer):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--spectrum", default="none")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        # The child that writes it keeps its memory out of this process's peak.
        context = torch.multiprocessing.get_context("spawn")
        child = context.Process(
            target=checkpoint, args=(file, options.gib, getattr(torch, options.dtype))
        )
        child.start()
        child.join()
        read_whole(file)  # both start from the file in the page cache
        tiny = Path(folder, "tiny.safetensors")
        save_file({"l.weight": torch.randn(64, 64).to(getattr(torch, options.dtype))}, tiny)
        diagnose_weights([tiny], spectrum=options.spectrum)  # the code itself, read in
        before, began = peak(), time.perf_counter()
        diagnose_weights([file], spectrum=options.spectrum)
        first, grown = time.perf_counter() - began, peak() - before
        largest = max(entry.bytes for entry in entries(file))
        works = {"diagnose": lambda: diagnose_weights([file]), "read": lambda: read_whole(file)}
        times = rounds(works, options.rounds)
    report(
        "diagnose",
        f"{options.gib:g} GiB of {options.dtype}, {WIDTH} x {WIDTH} layers",
        [
            {
                "spectrum": options.spectrum,
                "first pass (s)": first,
                "peak over interpreter / largest tensor": grown / largest,
                "without spectrum: time / reading": ratio(times, "diagnose", "read")["median"],
                "min": ratio(times, "diagnose", "read")["min"],
                "max": ratio(times, "diagnose", "read")["max"],
            }
        ],
    )


if __name__ == "__main__":
    main()
