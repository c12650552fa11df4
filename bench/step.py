"""A training step on SmolLM2: LoRAM's two forms against PEFT's plain LoRA, taking turns.

python bench/step.py [--rounds 7] [--rank 16] [--dtype bfloat16]
"""

import argparse
import statistics
import warnings

import torch
from peft import LoraConfig, get_peft_model

import loram  # noqa: F401 - registers
from loram.train.model import load_pretrained
from paired import ratio, report, rounds

BATCH, LENGTH = 4, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    ids = torch.randint(0, 49152, (BATCH, LENGTH))
    steps = {}
    for name, init in {
        "plain LoRA": True,
        "loram": "loram",
        "loram_residual": "loram_residual",
    }.items():
        base, _ = load_pretrained("smollm2", getattr(torch, options.dtype))
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.rank,
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

        steps[name] = step
    times = rounds(steps, options.rounds)
    report(
        "step",
        f"training step, SmolLM2 {options.dtype}, float32 adapters, r {options.rank}, "
        f"{BATCH}x{LENGTH} tokens, {options.rounds} rounds",
        [
            {
                "form": name,
                "seconds": statistics.median(times[name]),
                "tokens/s": BATCH * LENGTH / statistics.median(times[name]),
                "tokens/s over plain LoRA": ratio(times, "plain LoRA", name)["median"],
                "least": ratio(times, "plain LoRA", name)["min"],
                "most": ratio(times, "plain LoRA", name)["max"],
            }
            for name in steps
        ],
    )


if __name__ == "__main__":
    main()
