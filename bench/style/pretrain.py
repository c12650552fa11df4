"""Pretrain a small diffusion transformer on one vendor's emoji, from nothing.

npm pack emoji-datasource-google@16.0.0
python bench/emoji.py emoji-datasource-google-16.0.0.tgz --out runs/emoji/google
python bench/style/pretrain.py --data runs/emoji/google [--steps 1000]

OUT gets the model as diffusers saves it (33 MB) with `emoji.json`, which says the class of
each file, `losses.jsonl` and `drawn.png`: real emoji above drawn ones. A step's images and noise
depend on the step alone: killed, the command goes on from `OUT.checkpoint.pt` to the same numbers.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from denoiser import SIZE, draw, loss, new, noising
from emoji_set import classes, pixels
from features import Eye, distances
from pictures import save_rows
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from loram.files import staged_file, staged_folder, write_json, write_lines

WARMUP, AVERAGE, EVERY = 100, 0.99, 100


def rate(step: int, steps: int, peak: float) -> float:
    """Linear from 0, then half a cosine to 0."""
    if step < WARMUP:
        return peak * (step + 1) / WARMUP
    return peak * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/emoji/google"))
    parser.add_argument("--out", type=Path, default=Path("runs/style/base"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if (options.out / "config.json").exists():
        print(f"{options.out} is pretrained already")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = classes(options.data)
    images = pixels(options.data, names, SIZE)
    torch.manual_seed(0)
    model = new(len(names), width=options.width, depth=options.depth).to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    kept = options.out.with_name(options.out.name + ".checkpoint.pt")
    kept.parent.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []
    if kept.exists():
        state = torch.load(kept, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
    size = sum(each.numel() for each in model.parameters())
    print(f"{len(names)} emoji, {size / 1e6:.1f}M parameters, from step {len(losses)}", flush=True)
    make, began, first = noising(), time.perf_counter(), len(losses)
    for step in range(first, options.steps):
        drawn = torch.Generator().manual_seed(step)
        rows = torch.randint(len(names), (options.batch_size,), generator=drawn)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options.steps, options.lr)
        with torch.autocast(device, torch.bfloat16):
            value = loss(model, make, images[rows].to(device), rows.to(device), drawn)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        losses.append(value.item())
        if (step + 1) % EVERY == 0:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "losses": losses,
            }
            with staged_file(kept) as staging:
                torch.save(state, staging)
            mean = math.fsum(losses[-EVERY:]) / EVERY
            each = (time.perf_counter() - began) / (step + 1 - first)
            print(f"step {step + 1}: loss {mean:.4f}, {each:.2f} s a step", flush=True)
    shown = list(range(0, len(names), max(1, len(names) // 256)))[:256]
    made = draw(average.module, shown, steps=25)
    eye = Eye()
    found = distances(eye.see(made), eye.see(images[shown]))
    print(f"drawn to real: feature distance {found.feature:.3f}, kernel {found.kernel:.4f}")
    with staged_folder(options.out) as staging:
        average.module.save_pretrained(staging)
        write_json(staging / "emoji.json", names)
        write_json(staging / "distances.json", found._asdict())
        write_lines(
            staging / "losses.jsonl", [{"step": i, "loss": x} for i, x in enumerate(losses, 1)]
        )
        few = shown[:: max(1, len(shown) // 12)][:12]
        where = [shown.index(each) for each in few]
        save_rows([("real", images[few]), ("drawn", made[where])], staging / "drawn.png")
    kept.unlink(missing_ok=True)
    print(json.dumps({"saved": str(options.out), "loss": losses[-1] if losses else None}))


if __name__ == "__main__":
    main()
