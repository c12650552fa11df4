"""`loram run` on a TRL script that knows nothing of loram: what it saves is LoRAM."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import loram

SCRIPT = Path(__file__).parents[2] / "examples" / "trl_sft.py"
LAUNCHERS = {
    "python": [sys.executable],
    "accelerate": [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"),
        *("--dynamo_backend", "no"),
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [{"prompt": f"{i} plus {i}?", "completion": f" {2 * i}"} for i in range(16)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_script_does_not_name_loram():
    code = SCRIPT.read_text().split('"""')[2]
    assert "loram" not in code


@pytest.mark.parametrize(
    ("launcher", "init"), [("python", "loram"), ("accelerate", "loram(basis=orthogonal, seed=3)")]
)
def test_the_saved_adapter_is_loram(tiny_model, data, tmp_path, launcher, init):
    out = tmp_path / "out"
    command = [*LAUNCHERS[launcher], str(SCRIPT), str(tiny_model), str(data), str(out), "--cpu"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loram", "run", "--init", init, "--"),
            *command,
            *("--steps", "2", "--batch", "2"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["init_lora_weights"] == init
    state = load_file(out / "adapter_model.safetensors")
    assert sum(name.endswith("lora_basis.weight") for name in state) == len(state) // 3

    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(base, str(out))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    basis = "orthogonal" if "orthogonal" in init else "dst"
    _, _, beta = loram.factors(layer.get_base_layer().weight, 16, basis=basis, seed=3)
    assert layer.lora_basis["default"].beta == pytest.approx(beta, rel=1e-6)
    assert layer.lora_basis["default"].basis == basis
    assert layer.lora_B["default"].weight.abs().max() > 0  # it has learnt
    assert torch.isfinite(layer.lora_A["default"].weight).all()
