"""RsLoRA at r = 16 and LoRA+ with ratio 4 are one run (Proposition 1), on models in use.

Four is a power of two, so that in floating point, too, one run is the other with exactly scaled
numbers: in float32 they were equal bit for bit where we looked, and the tolerances are for kernels
that choose by the numbers. At r = 10 (s = √10) nothing is exact, so float64 tells that it is theory
and not luck.
"""

import math

import pytest
import torch
from peft import get_peft_model
from small import lora_config

from loram.probe import MagnitudeProbe
from loram.train.model import load_pretrained
from loram.train.smollm2 import available

EPS = 1e-8


def trajectory(base, batches, *, rslora, targets, lr=2e-4, matched=True, r=16):
    """Losses, and ν[W_LoRA] of every layer after each step of AdamW; no decay, no clipping."""
    torch.manual_seed(0)
    config = lora_config(True, r=r, use_rslora=rslora, target_modules=targets)
    # PEFT makes float32 factors whatever the base is.
    model = get_peft_model(base, config).to(next(base.parameters()).dtype).train()
    probe = MagnitudeProbe(model)
    A, B = ([p for name, p in model.named_parameters() if f"lora_{side}." in name] for side in "AB")
    ratio = 1 if rslora or not matched else math.sqrt(r)
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


def assert_one_run(make, batches, targets, tolerance, r=16):
    rs = trajectory(make(), batches, rslora=True, targets=targets, r=r)
    plus = trajectory(make(), batches, rslora=False, targets=targets, r=r)
    torch.testing.assert_close(rs[0], plus[0], rtol=tolerance, atol=0)
    torch.testing.assert_close(rs[1], plus[1], rtol=10 * tolerance, atol=0)
    plain = trajectory(make(), batches, rslora=False, targets=targets, matched=False, r=r)
    assert float((rs[1][-1] / plain[1][-1]).min()) > 4  # LoRA at the same rate is another run


def test_on_a_tiny_llama(llama):
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 64, (3, 12), generator=generator) for _ in range(12)]
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    assert_one_run(llama, batches, targets, 1e-6)
    assert_one_run(lambda: llama(dtype=torch.float64), batches, targets, 1e-10, r=10)


@pytest.mark.model
@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_on_smollm2():
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 49152, (1, 24), generator=generator) for _ in range(3)]

    def make():
        return load_pretrained("smollm2", torch.float32).model

    assert_one_run(make, batches, "all-linear", 1e-5)
