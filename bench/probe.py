"""Cost of logging every layer's magnitudes at every step, over a training step of SmolLM2.

python bench/probe.py [--rounds 7]
"""

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model

import loram  # noqa: F401 - registers
from loram.probe import MagnitudeLog
from loram.train.model import load_pretrained
from paired import ratio, report, rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    ids = torch.randint(0, 49152, (4, 256))
    rows = []
    for name, init in {"plain LoRA": True, "loram": "loram"}.items():
        base, _ = load_pretrained("smollm2", torch.bfloat16)
        config = LoraConfig(
            r=16,
            lora_alpha=16,
            target_modules="all-linear",
            init_lora_weights=init,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(base, config).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0)

        def step(model=model, optimizer=optimizer) -> None:
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        with tempfile.TemporaryDirectory() as folder:
            log = MagnitudeLog(model, Path(folder, "magnitudes.jsonl"))
            state = SimpleNamespace(global_step=1)
            write = lambda log=log, state=state: log.on_step_end(None, state, None)  # noqa: E731
            times = rounds({"step": step, "log": write}, options.rounds)
        rows.append(
            {
                "adapter": name,
                "step (s)": statistics.median(times["step"]),
                "log (s)": statistics.median(times["log"]),
                "log over step": ratio(times, "log", "step")["median"],
            }
        )
    report("probe", "magnitudes of 210 layers, SmolLM2 bfloat16, r 16, 4x256 tokens", rows)


if __name__ == "__main__":
    main()
