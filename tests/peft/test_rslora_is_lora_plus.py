"""RsLoRA at r = 16 and LoRA+ with ratio 4 are one run (Proposition 1), on models in use.

Four is a power of two, so that in floating point, too, one run is the other with exactly scaled
numbers: what differs is rounding in Adam's own bookkeeping, and float32 shows next to none of it.
"""

import pytest
import torch
from peft import get_peft_model
from small import lora_config

from loram.probe import MagnitudeProbe
from loram.train.model import load_pretrained
from loram.train.smollm2 import available

EPS = 1e-8


def trajectory(base, batches, *, rslora, targets, lr=2e-4, matched=True):
    """Losses, and ν[W_LoRA] of every layer after each step of AdamW; no decay, no clipping."""
    torch.manual_seed(0)
    config = lora_config(True, r=16, use_rslora=rslora, target_modules=targets)
    model = get_peft_model(base, config).train()
    probe = MagnitudeProbe(model)
    A, B = ([p for name, p in model.named_parameters() if f"lora_{side}." in name] for side in "AB")
    ratio = 1 if rslora or not matched else 4
    optimizer = torch.optim.AdamW(
        [
            {"params": A, "lr": lr, "eps": EPS},
            {"params": B, "lr": ratio * lr, "eps": EPS / ratio},
        ],
        weight_decay=0.0,
    )
    losses, updates = [], []
    for ids in batches:
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        updates.append([layer.update for layer in probe.read().values()])
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(updates, dtype=torch.float64)


def assert_one_run(make, batches, targets, tolerance):
    rs = trajectory(make(), batches, rslora=True, targets=targets)
    plus = trajectory(make(), batches, rslora=False, targets=targets)
    torch.testing.assert_close(rs[0], plus[0], rtol=tolerance, atol=0)
    torch.testing.assert_close(rs[1], plus[1], rtol=10 * tolerance, atol=0)
    plain = trajectory(make(), batches, rslora=False, targets=targets, matched=False)
    assert float((rs[1][-1] / plain[1][-1]).min()) > 4  # LoRA at the same rate is another run


def test_on_a_tiny_llama(llama):
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 64, (3, 12), generator=generator) for _ in range(12)]
    assert_one_run(llama, batches, ["q_proj", "v_proj", "up_proj", "down_proj"], 1e-6)


@pytest.mark.model
@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_on_smollm2():
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 49152, (1, 24), generator=generator) for _ in range(3)]

    def make():
        return load_pretrained("smollm2", torch.float32).model

    assert_one_run(make, batches, "all-linear", 1e-5)
