"""Every row of the methods table on a model: what it says of base, data, start and scaling is true.

One life of each row, by `loram.train.subject`: attached, trained, saved, loaded on a fresh base.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import logits, lora_layers
from torch import Tensor

from loram import LoramError
from loram.methods import METHODS, named
from loram.peft.attach import attach, load_adapter, lora_plus
from loram.peft.calibration import COVARIANCE, GRADIENT, Calibration
from loram.schemes import lora_one
from loram.train.settings import TrainSettings
from loram.train.subject import begin

# PEFT says it of every Conv1D model whose config leaves it to PEFT.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")

RANK = 4
TARGETS = {"llama": "q_proj,up_proj,down_proj", "gpt2": "c_attn,c_fc"}
ROWS = [row for row in METHODS.values() if row.init is not None]
ON_CONV1D = [
    *("lora", "pissa", "milora", "orthogonal", "eva", "corda-ipm", "lora-ga", "lora-one"),
    *("loram", "loram-residual", "loram-track-lora-ga"),
]
LIVES = [*(("llama", row.name) for row in ROWS), *(("gpt2", name) for name in ON_CONV1D)]


def batches() -> list[dict[str, Tensor]]:
    """Two batches, (3, 7) and (2, 5); the second has a padded row."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for shape in ((3, 7), (2, 5)):
        ids = torch.randint(1, 64, shape, generator=generator)
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids})
    made[1]["attention_mask"][0, 3:] = 0
    made[1]["labels"] = ids.masked_fill(made[1]["attention_mask"] == 0, -100)
    return made


@dataclass
class Life:
    """What one row did to one model."""

    used: Calibration | None
    scalings: set[float]
    start: Tensor
    rewritten_at_start: bool
    rewritten_by_training: bool
    left: list[str]
    losses: list[float]
    end: Tensor
    reloaded: Tensor
    reloaded_base_kept: bool


def live(make: Callable[[], Any], targets: str, name: str, out: Path) -> Life:
    data = batches()[: 1 if name == "eva" else 2]  # PEFT reads two a hundred times
    ids = data[0]["input_ids"]
    torch.manual_seed(5)
    model = make()
    pretrained = [(p, p.detach().clone()) for p in model.parameters()]

    def rewritten() -> bool:
        return not all(torch.equal(now, then) for now, then in pretrained)

    settings = TrainSettings(method=name, rank=RANK, target_modules=targets)
    job = SimpleNamespace(model=model, task_type="CAUSAL_LM", heads=(), within=None)
    subject = begin(job, settings, data, out)
    adapted: Any = subject.model
    start, at_start = logits(adapted, ids), rewritten()
    scalings = {float(layer.scaling["default"]) for layer in lora_layers(adapted)}
    left = [n for m in adapted.modules() for n in (COVARIANCE, GRADIENT) if n in vars(m)]
    started = [p.detach().clone() for p, _ in pretrained]
    optimizer = subject.optimizer or torch.optim.AdamW(
        [p for p in adapted.parameters() if p.requires_grad], lr=3e-3, weight_decay=0
    )
    losses = []
    for _ in range(6):
        loss = adapted(**data[0]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    moved = not all(torch.equal(p, was) for (p, _), was in zip(pretrained, started, strict=True))
    subject.save(out, None)
    fresh = make()
    kept = [(p, p.detach().clone()) for p in fresh.parameters()]
    loaded = load_adapter(fresh, out / subject.saved)
    return Life(
        subject.used,
        scalings,
        start,
        at_start,
        moved,
        left,
        losses,
        logits(adapted, ids),
        logits(loaded, ids),
        all(torch.equal(now, then) for now, then in kept),
    )


@pytest.fixture
def makers(llama, gpt2):
    return {"llama": llama, "gpt2": gpt2}


@pytest.fixture(scope="module")
def lived() -> dict[tuple[str, str], Life]:
    return {}


@pytest.fixture
def lives(makers, lived, tmp_path):
    """The life of a row on a model; each is lived once."""

    def get(kind: str, name: str) -> Life:
        if (kind, name) not in lived:
            lived[kind, name] = live(makers[kind], TARGETS[kind], name, tmp_path)
        return lived[kind, name]

    return get


@pytest.fixture
def pretrained(makers):
    """Logits of a model without an adapter."""

    def get(kind: str) -> Tensor:
        return logits(makers[kind](), batches()[0]["input_ids"])

    return get


def drift(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest logit."""
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(("kind", "name"), LIVES)
def test_base_is_rewritten_if_the_row_says_so_and_never_by_training(lives, kind, name):
    life = lives(kind, name)
    assert life.rewritten_at_start == (named(name).base == "rewritten")
    assert not life.rewritten_by_training


@pytest.mark.parametrize(("kind", "name"), [each for each in LIVES if each[1] != "lora-one"])
def test_every_row_starts_at_the_pretrained_model(lives, pretrained, kind, name):
    exact = named(name).base == "kept" and name != "orthogonal"  # whose BA is 0 to rounding
    assert drift(lives(kind, name).start, pretrained(kind)) <= (0 if exact else 2e-6)


@pytest.mark.parametrize("kind", TARGETS)
def test_lora_one_starts_a_step_away_from_it(lives, makers, pretrained, kind):
    base, data = makers[kind]().train(), batches()
    for batch in data:
        base(**batch).loss.backward()
    for name, module in base.named_modules():
        if name.rsplit(".", 1)[-1] in TARGETS[kind].split(","):
            conv1d = kind == "gpt2"
            G = module.weight.grad / len(data)
            start = lora_one.factors((G.T if conv1d else G).double(), RANK)
            step = start.B0 @ start.A0
            module.weight.data += step.T if conv1d else step
    life = lives(kind, "lora-one")
    assert drift(life.start, logits(base, data[0]["input_ids"])) < 1e-5
    assert drift(life.start, pretrained(kind)) > 1e-3


@pytest.mark.parametrize(("kind", "name"), LIVES)
def test_every_row_learns(lives, kind, name):
    losses = lives(kind, name).losses
    assert losses[-1] < losses[0]
    assert drift(lives(kind, name).end, lives(kind, name).start) > 1e-3


@pytest.mark.parametrize(("kind", "name"), LIVES)
def test_every_saved_adapter_reloads_on_the_pretrained_base(lives, kind, name):
    life = lives(kind, name)
    assert drift(life.reloaded, life.end) < 1e-5
    # What was taken out of a base is saved with the adapter; only LoRAM takes it out again.
    assert life.reloaded_base_kept == (name != "loram-residual")


@pytest.mark.parametrize(("kind", "name"), LIVES)
def test_scaling_is_the_rows(lives, kind, name):
    assert lives(kind, name).scalings == {RANK**0.5 if named(name).rslora else 1.0}


@pytest.mark.parametrize(("kind", "name"), LIVES)
def test_rows_with_data_say_how_much_they_used_and_leave_nothing_behind(lives, kind, name):
    life = lives(kind, name)
    assert life.left == []
    if named(name).data is None:
        assert life.used is None
        return
    examples, tokens = life.used.examples, life.used.tokens
    assert life.used.seconds > 0
    if name == "eva":  # goes over the batches until the vectors stand still
        assert (examples % 3, examples // 3) == (0, tokens // 21)
        assert examples >= 6
    else:
        assert (examples, tokens) == (5, 3 * 7 + 3 + 5)


@pytest.mark.parametrize("row", [row for row in ROWS if row.data], ids=lambda row: row.name)
@pytest.mark.parametrize("calibration", [None, []])
def test_a_row_without_the_data_it_needs_is_refused(llama, row, calibration):
    what = rf"{row.name}.*\({row.data}\): pass calibration" if calibration is None else "no batch"
    with pytest.raises(LoramError, match=what):
        attach(llama(), row, rank=RANK, alpha=RANK, calibration=calibration)


def test_rslora_may_be_asked_of_any_row(llama):
    model, _ = attach(llama(), named("pissa"), rank=4, alpha=8, rslora=True)
    assert {layer.scaling["default"] for layer in lora_layers(model)} == {4.0}


def test_cordas_modes_are_two_methods(llama):
    products = []
    for name in ("corda-ipm", "corda-kpm"):
        model, _ = attach(
            *(llama(), named(name)),
            **{"rank": RANK, "alpha": RANK, "target_modules": "q_proj", "calibration": batches()},
        )
        layer = lora_layers(model)[0]
        products.append(layer.get_delta_weight("default").norm())
    assert products[0] > 2 * products[1]


def test_olora_is_refused_on_conv1d_before_anything_changes(gpt2):
    model = gpt2()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LoramError, match=r"Conv1D layers, got transformer\.h\.0.*use another"):
        attach(model, named("olora"), rank=RANK, alpha=RANK)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert lora_layers(model) == []


def test_targets_that_match_nothing_are_refused(llama):
    with pytest.raises(LoramError, match=r"target_modules='nothing' matches no layer.*q_proj"):
        attach(llama(), named("lora"), rank=4, alpha=4, target_modules="nothing")


# ---- LoRA+ ---------------------------------------------------------------------------------------


def rates(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    return {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize(("ratio", "expected"), [(None, 4.0), (16.0, 16.0), (0.5, 0.5)])
@pytest.mark.parametrize("name", ["lora+", "loram"])
def test_lora_plus_has_two_rates(llama, name, ratio, expected):
    method = named(name)
    model, _ = attach(llama(), method, rank=4, alpha=4, target_modules="q_proj")
    optimizer = lora_plus(model, method, lr=1e-3, ratio=ratio, weight_decay=0.1)
    if name == "loram" and ratio is None:
        assert optimizer is None
        return
    assert type(optimizer) is torch.optim.AdamW
    found = rates(optimizer)
    layers = lora_layers(model)
    assert len(found) == 2 * len(layers)
    for layer in layers:
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert found[id(A)] == pytest.approx((1e-3, 0.1))
        assert found[id(B)] == pytest.approx((expected * 1e-3, 0.1))


def test_equal_rates_leave_the_optimiser_to_the_trainer(llama):
    model, _ = attach(llama(), named("lora+"), rank=4, alpha=4, target_modules="q_proj")
    assert lora_plus(model, named("lora+"), lr=1e-3, ratio=1.0) is None
    assert lora_plus(model, replace(named("lora+"), lr_ratio=1.0), lr=1e-3) is None
