"""Calibration gathers what it says, counts it, and leaves the model as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.config import CordaConfig
from small import GPT2_TARGETS, base_stays, lora_layers, relative
from torch import Tensor, nn

from loram import LoramError, calibrate
from loram.peft.calibration import COVARIANCE, GRADIENT, calibrate_eva, forget, gradient_of
from loram.peft.layers import base_weight

TARGETS = ["q_proj", "down_proj"]
GRADIENTS = ["lora_ga", "lora_one", "loram(gain=track:lora_ga)", "loram(gain=track:lora_one)"]
INPUTS = ["corda", "loram(gain=track:corda)"]


def config(init: str, **settings: Any) -> LoraConfig:
    own = {"corda_config": CordaConfig()} if init == "corda" else {}
    defaults = {"r": 4, "lora_alpha": 4, "target_modules": TARGETS}
    return LoraConfig(init_lora_weights=init, **(defaults | own | settings))


def batch(ids: Tensor, lengths: list[int], left: bool = False) -> dict[str, Tensor]:
    """Rows of these lengths, padded on the right or the left."""
    mask = torch.zeros_like(ids)
    for row, length in zip(mask, lengths, strict=True):
        (row.flip(0) if left else row)[:length] = 1
        if left:
            row[-length:] = 1
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": ids.where(mask > 0, -100)}


def whole(ids: Tensor) -> dict[str, Tensor]:
    return batch(ids, [ids.shape[1]] * ids.shape[0])


def targets(model: nn.Module, names: list[str] = TARGETS) -> dict[str, Any]:
    return {n: m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in names}


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("init", GRADIENTS)
def test_gradient_is_autograds_of_the_mean_loss_of_the_batches(llama, ids, init):
    """PEFT averages over backward calls: batches weigh alike, whatever their size."""
    model, oracle = llama(), llama().double()
    batches = [batch(ids, [7, 5, 2]), whole(ids[:1, :4])]
    used = calibrate(model, config(init), batches)
    sum(oracle(**each).loss / len(batches) for each in batches).backward()
    for name, module in targets(oracle).items():
        found = gradient_of(model.get_submodule(name), init)
        assert relative(found, module.weight.grad) < 1e-5, name
    assert (used.examples, used.tokens) == (4, 7 + 5 + 2 + 4)


def test_gradient_of_a_conv1d_reads_as_n_by_m(gpt2, ids):
    model, oracle = gpt2(), gpt2().double()
    asked = config("lora_one", target_modules=["c_attn"], fan_in_fan_out=True)
    calibrate(model, asked, [whole(ids)])
    oracle(**whole(ids)).loss.backward()
    for name, module in targets(oracle, ["c_attn"]).items():
        found = gradient_of(model.get_submodule(name), "lora_one")
        assert found.shape == (96, 32)
        assert relative(found, module.weight.grad.T) < 1e-5


def test_gradients_that_were_there_before_neither_count_nor_go(llama, ids):
    model, other = llama(), llama()
    other(**whole(ids)).loss.backward()
    for parameter, theirs in zip(model.parameters(), other.parameters(), strict=True):
        parameter.grad = theirs.grad.clone()
    calibrate(model, config("lora_one"), [whole(ids[:2])])
    fresh = llama()
    calibrate(fresh, config("lora_one"), [whole(ids[:2])])
    for name, module in targets(model).items():
        expected = gradient_of(fresh.get_submodule(name), "lora_one")
        assert torch.equal(gradient_of(module, "lora_one"), expected)
    for parameter, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter.grad, theirs.grad)


# ---- inputs --------------------------------------------------------------------------------------


def inputs_of(model: nn.Module, rows: list[Tensor]) -> dict[str, list[Tensor]]:
    """What each target sees of each row alone."""
    seen: dict[str, list[Tensor]] = {name: [] for name in targets(model)}
    hooks = [
        module.register_forward_pre_hook(lambda m, args, n=name: seen[n].append(args[0][0]))
        for name, module in targets(model).items()
    ]
    with torch.no_grad():
        for row in rows:
            model(input_ids=row[None])
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("init", INPUTS)
def test_corda_is_the_svd_of_w_times_the_covariance_of_its_inputs(llama, ids, init):
    """C: mean over examples of XᵀX, X divided by its largest entry (PEFT's), damped by 1 %."""
    model, oracle = llama(), llama().double()
    calibrate(model, config(init), [whole(ids)])
    for name, rows in inputs_of(oracle, list(ids)).items():
        C = sum((X / X.max()).T @ (X / X.max()) for X in rows) / len(rows)
        C += 0.01 * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype)
        U, S, Vh = torch.linalg.svd(oracle.get_submodule(name).weight @ C)
        found = getattr(model.get_submodule(name), COVARIANCE)
        torch.testing.assert_close(found.S_WC.double(), S[:4], rtol=1e-4, atol=0)
        product = found.U_WC @ torch.diag(found.S_WC) @ found.V_WC.T
        expected = U[:, :4] @ torch.diag(S[:4]) @ Vh[:4] @ torch.linalg.inv(C)
        assert relative(product, expected) < 1e-3


@pytest.mark.parametrize("left", [False, True])
def test_corda_sees_no_padding(llama, ids, left):
    lengths = [7, 4, 2]
    padded, alone = llama(), llama()
    if left:
        rows = [row[-n:] for row, n in zip(ids, lengths, strict=True)]
    else:
        rows = [row[:n] for row, n in zip(ids, lengths, strict=True)]
    used = calibrate(padded, config("corda"), [batch(ids, lengths, left)])
    bare = calibrate(alone, config("corda"), [{"input_ids": row[None]} for row in rows])
    assert (used.examples, used.tokens) == (bare.examples, bare.tokens) == (3, 13)
    for name, module in targets(padded).items():
        mine, theirs = (getattr(m, COVARIANCE) for m in (module, alone.get_submodule(name)))
        assert torch.equal(mine.S_WC, theirs.S_WC)
        assert torch.equal(mine.U_WC, theirs.U_WC)


def test_corda_keeps_as_many_components_as_each_layer_has_ranks(llama, ids):
    model = llama()
    calibrate(model, config("corda", rank_pattern={"down_proj": 6}), [whole(ids)])
    ranks = {n.rsplit(".", 1)[-1]: len(m.eigens.S_WC) for n, m in targets(model).items()}
    assert ranks == {"q_proj": 4, "down_proj": 6}


# ---- EVA -----------------------------------------------------------------------------------------


def test_eva_counts_every_reading_and_starts_with_b_zero(llama, ids):
    from peft import EvaConfig

    model = get_peft_model(
        llama(), config("eva", eva_config=EvaConfig(rho=1.0)), low_cpu_mem_usage=True
    )
    used = calibrate_eva(model, [whole(ids)])
    assert (used.examples % 3, used.tokens) == (0, 7 * used.examples)
    seen = inputs_of(llama(), [])  # the layers' names
    for layer in lora_layers(model):
        A = layer.lora_A["default"].weight
        torch.testing.assert_close(A @ A.T, torch.eye(4), rtol=0, atol=1e-5)
        assert not layer.lora_B["default"].weight.any()
    assert len(seen) == len(lora_layers(model))


def test_eva_without_a_batch_is_refused(llama):
    from peft import EvaConfig

    model = get_peft_model(llama(), config("eva", eva_config=EvaConfig()), low_cpu_mem_usage=True)
    with pytest.raises(LoramError, match="eva starts from data and got no batch"):
        calibrate_eva(model, [])


# ---- what is left of it --------------------------------------------------------------------------


@contextmanager
def undisturbed(model: nn.Module, left: str | None) -> Iterator[None]:
    """Weights, modes, hooks, what trains and gradients: all as before; `left` on the targets."""

    def picture() -> list[Any]:
        modules = [
            (n, m.training, list(m._forward_hooks), list(m._backward_hooks), sorted(vars(m)))
            for n, m in model.named_modules()
        ]
        return [modules, [(n, p.requires_grad, p.grad) for n, p in model.named_parameters()]]

    before = picture()
    with base_stays(model):
        yield
    if left is not None:
        for module in targets(model).values():
            delattr(module, left)
    assert picture() == before


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("init", [*GRADIENTS[:2], *INPUTS])
def test_model_is_as_it_was(llama, ids, init, training):
    model = llama().train(training)
    model.model.norm.train(not training)  # one module of its own mind
    model.model.embed_tokens.weight.requires_grad_(False)
    with undisturbed(model, COVARIANCE if init in INPUTS else GRADIENT):
        calibrate(model, config(init), iter([whole(ids)]))


@pytest.mark.parametrize("init", [*GRADIENTS, *INPUTS])
def test_no_batch_is_refused_and_nothing_is_left(llama, init):
    model = llama()
    with undisturbed(model, None), pytest.raises(LoramError, match="got no batch: expected at"):
        calibrate(model, config(init), [])


@pytest.mark.parametrize("init", ["lora_one", "corda"])
def test_an_error_on_the_way_leaves_nothing(llama, ids, init):
    def breaking() -> Iterator[dict[str, Tensor]]:
        yield whole(ids)
        raise OSError("the disk is gone")

    model = llama()
    with undisturbed(model, None), pytest.raises(OSError, match="disk"):
        calibrate(model, config(init), breaking())


@pytest.mark.parametrize("init", [True, "pissa", "milora", "loram", "loram(gain=track:pissa)"])
def test_methods_without_data_read_nothing(llama, init):
    def never() -> Iterator[dict[str, Tensor]]:
        raise AssertionError
        yield {}

    model = llama()
    with undisturbed(model, None):
        used = calibrate(model, config(init), never())
    assert (used.examples, used.tokens) == (0, 0)


def test_config_is_not_changed(llama, ids):
    asked = config("loram(gain=track:corda)", target_modules="all-linear")
    before = asked.to_dict()
    calibrate(llama(), asked, [whole(ids)])
    assert asked.to_dict() == before


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("all-linear", 14),
        (None, 4),  # PEFT's default for Llama: q_proj and v_proj
        (r".*layers\.1\..*(q|up)_proj", 2),
    ],
)
@pytest.mark.parametrize("init", ["lora_one", "loram(gain=track:corda)"])
def test_targets_are_peft_s_own_matching(llama, ids, init, asked, found):
    model, wanted = llama(), config(init, target_modules=asked)
    calibrate(model, wanted, [whole(ids)])
    noted = {n for n, m in model.named_modules() if COVARIANCE in vars(m) or GRADIENT in vars(m)}
    assert len(noted) == found
    adapted = get_peft_model(model, wanted)
    assert len(lora_layers(adapted)) == found


def test_forget_takes_off_what_no_adapter_used(llama, gpt2, ids):
    for make, names in ((llama, TARGETS), (gpt2, GPT2_TARGETS)):
        model = make()
        for init in ("lora_one", "corda"):
            calibrate(model, config(init, target_modules=names), [whole(ids)])
        assert all({COVARIANCE, GRADIENT} <= set(vars(m)) for m in targets(model, names).values())
        forget(model)
        assert not any({COVARIANCE, GRADIENT} & set(vars(m)) for m in model.modules())


def test_gradient_and_weight_have_one_orientation(gpt2, ids):
    model = gpt2()
    calibrate(model, config("lora_one", target_modules=GPT2_TARGETS), [whole(ids)])
    for module in targets(model, GPT2_TARGETS).values():
        assert gradient_of(module, "lora_one").shape == base_weight(module).shape
