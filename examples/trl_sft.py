"""Fine-tuning with TRL, without a word of loram: `loram run` brings it.

    loram run --init loram -- python examples/trl_sft.py MODEL DATA OUT
    loram run --init loram -- accelerate launch examples/trl_sft.py MODEL DATA OUT

MODEL is a folder or hub id, DATA a JSONL of {"prompt": …, "completion": …}, OUT gets the adapter.
"""

import argparse

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser(description="LoRA by TRL's SFTTrainer.")
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--lr", type=float, default=2e-4)
parser.add_argument("--cpu", action="store_true")
options = parser.parse_args()

trainer = SFTTrainer(
    model=options.model,
    args=SFTConfig(
        options.out,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        learning_rate=options.lr,
        logging_steps=10,
        report_to="none",
        use_cpu=options.cpu,
        bf16=not options.cpu,
    ),
    train_dataset=load_dataset("json", data_files=options.data, split="train"),
    peft_config=LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"),
)
trainer.train()
trainer.save_model()
