"""As sharded_steps.py, by DeepSpeed ZeRO-3.

    torchrun --nproc-per-node 2 zero3_steps.py FOLDER FORM…

What is done to the model is what Transformers does with a DeepSpeed config: the weights are read
in pieces, so that no process ever holds the whole base.
"""

import json
import os
import sys
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"  # before anything imports deepspeed

import deepspeed
import torch.distributed as dist
from sharded_steps import batches, start
from transformers.integrations import HfDeepSpeedConfig

CONFIG = {
    "train_micro_batch_size_per_gpu": 2,
    "gradient_clipping": 0.0,  # DeepSpeed's default is 1
    "zero_allow_untested_optimizer": True,
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}


def together(folder: Path, form: str) -> None:
    model, optimizer = start(folder, form)
    weight = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj").weight
    assert weight.numel() == 0  # it is in pieces
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIG)
    losses = []
    for batch in batches().chunk(dist.get_world_size(), dim=1)[dist.get_rank()]:
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
        mean = loss.detach() / dist.get_world_size()
        dist.all_reduce(mean)
        losses.append(float(mean))
    state = engine._zero3_consolidated_16bit_state_dict()
    if dist.get_rank() == 0:
        out = folder / f"zero3-{form}"
        model.save_pretrained(out, state_dict=state)
        (out / "losses.json").write_text(json.dumps(losses))
    dist.barrier()


if __name__ == "__main__":
    deepspeed.init_distributed("gloo")
    config = HfDeepSpeedConfig(CONFIG)  # alive while models are loaded
    for form in sys.argv[2:]:
        together(Path(sys.argv[1]), form)
    dist.destroy_process_group()
