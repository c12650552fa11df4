"""Logits of a model with a plain LoRA adapter, from PEFT alone. Run by path; never imports loram.

python reload_without_loram.py BASE ADAPTER IDS OUT
"""

import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

base, adapter, ids, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    logits = model(input_ids=load_file(ids)["ids"]).logits
assert "loram" not in sys.modules, "this process was to do without loram"
save_file({"logits": logits.contiguous()}, out)
