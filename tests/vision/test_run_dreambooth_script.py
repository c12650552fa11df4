"""`loram run -- <a DreamBooth script of diffusers>`: the script has "gaussian" written in it."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from loram.launch import environment

# In the manner of diffusers' train_dreambooth_lora_flux.py, and no word of loram.
SCRIPT = """
import argparse, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {here!r})
import torch
from accelerate import Accelerator
from diffusers import FluxPipeline
from diffusers.training_utils import _collate_lora_metadata, cast_training_params
from peft import LoraConfig, set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict
import diffusion_tiny as tiny


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--lora_alpha", type=int, default=8)
    parser.add_argument("--output_dir", type=str)
    parser.add_argument("--max_train_steps", type=int)
    parser.add_argument("--resume_from_checkpoint", type=str, default=None)
    return parser.parse_args()


def main(args):
    accelerator = Accelerator(cpu=True)
    transformer = tiny.flux_transformer()
    transformer.requires_grad_(False)
    config = LoraConfig(
        r=args.rank,
        lora_alpha=args.lora_alpha,
        init_lora_weights="gaussian",
        target_modules=["attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0"],
    )
    transformer.add_adapter(config)
    print("init:", transformer.peft_config["default"].init_lora_weights)

    def save_model_hook(models, weights, output_dir):
        model = accelerator.unwrap_model(models[0])
        layers = get_peft_model_state_dict(model)
        weights.pop()
        FluxPipeline.save_lora_weights(
            output_dir,
            transformer_lora_layers=layers,
            **_collate_lora_metadata({{"transformer": model}}),
        )

    def load_model_hook(models, input_dir):
        model = models.pop()
        state = FluxPipeline.lora_state_dict(input_dir)
        state = {{f'{{k.replace("transformer.", "")}}': v for k, v in state.items()}}
        bad = set_peft_model_state_dict(model, state, adapter_name="default")
        assert not getattr(bad, "unexpected_keys", None)
        cast_training_params([model])

    accelerator.register_save_state_pre_hook(save_model_hook)
    accelerator.register_load_state_pre_hook(load_model_hook)
    params = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-2)
    transformer, optimizer = accelerator.prepare(transformer, optimizer)
    first = 0
    if args.resume_from_checkpoint:
        accelerator.load_state(f"{{args.output_dir}}/{{args.resume_from_checkpoint}}")
        first = int(args.resume_from_checkpoint.split("-")[1])
    batch = tiny.inputs(accelerator.unwrap_model(transformer))
    goal = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(5))
    for step in range(first, args.max_train_steps):
        loss = (transformer(**batch).sample - goal).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        print("loss:", loss.item())
        if step + 1 == 2:
            accelerator.save_state(f"{{args.output_dir}}/checkpoint-2")
    model = accelerator.unwrap_model(transformer)
    FluxPipeline.save_lora_weights(
        save_directory=args.output_dir,
        transformer_lora_layers=get_peft_model_state_dict(model),
        **_collate_lora_metadata({{"transformer": model}}),
    )
    pipeline = tiny.flux_pipeline()
    pipeline.load_lora_weights(args.output_dir)
    batch = tiny.inputs(pipeline.transformer)
    with torch.no_grad():
        off = (pipeline.transformer(**batch).sample - model(**batch).sample).abs().max()
    print("off:", off.item())


if __name__ == "__main__":
    main(parse_args())
"""


def said(tmp_path: Path, *more: str) -> dict[str, list[str]]:
    script = tmp_path / "train_dreambooth_lora_flux.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    command = [sys.executable, str(script), "--output_dir", str(tmp_path / "out")]
    command += ["--max_train_steps", "4", *more]
    if not more:  # the whole way once; after that, what it becomes
        command = [sys.executable, "-m", "loram", "run", "--init", "loram", "--", *command]
    env = environment("loram" if more else None)
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    lines = [line.split(": ") for line in done.stdout.splitlines() if ": " in line]
    return {name: [value for key, value in lines if key == name] for name, _ in lines}


def test_a_script_that_asks_for_gaussian_trains_loram_and_goes_on(tmp_path):
    whole = said(tmp_path)
    assert whole["init"] == ["loram"]
    losses = [float(loss) for loss in whole["loss"]]
    assert losses[-1] < losses[0]
    assert float(whole["off"][0]) < 1e-4
    tensors = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert {tensor.shape[0] for key, tensor in tensors.items() if "lora_A" in key} == {8}
    resumed = said(tmp_path, "--resume_from_checkpoint", "checkpoint-2")
    torch.testing.assert_close(
        torch.tensor([float(loss) for loss in resumed["loss"]]), torch.tensor(losses[2:])
    )
