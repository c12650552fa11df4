"""β, basis and seed beside the factors; and the registration with PEFT."""

import copy
import math

import peft.utils.hotswap
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import Linear, LoraLayer
from small import FORMS, lora_config, lora_layers, scramble, state

import loram
from loram.bases import BASES, basis
from loram.peft import register, unregister
from loram.peft.record import BasisRecord
from loram.schemes.loram import beta

betas = st.floats(0, 1e300, allow_nan=False)


@given(value=betas, name=st.sampled_from(list(BASES)), seed=st.integers(0, 2**31 - 1))
def test_record_survives_casts_copies_and_state_dicts_bit_for_bit(value, name, seed):
    record = BasisRecord(value, name, seed, rank=5)
    bits = record.weight.clone()
    twin = BasisRecord(math.nan, "dst", 0, rank=5)
    twin.load_state_dict(record.to(torch.bfloat16).half().double().float().state_dict())
    for r in (record, twin, copy.deepcopy(record)):
        assert r.weight.dtype == torch.int64
        assert torch.equal(r.weight, bits)
        assert (r.beta, r.basis, r.seed) == (value, name, seed)
        assert r.stored_rank == (0 if BASES[name].nested else 5)


@given(value=betas)
def test_beta_read_on_the_device_is_the_same_float64(value):
    anchor = BasisRecord(value, "dst", 0, 2).anchor(4, 3, 2, like=torch.zeros(1))
    assert anchor.beta.dtype == torch.float64
    assert anchor.beta.item() == value


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_anchor_is_the_basis_in_float32_at_least(name, dtype):
    anchor = BasisRecord(0.5, name, 3, 4).anchor(7, 9, 4, like=torch.zeros(1, dtype=dtype))
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    for phi, n, side in ((anchor.phi_out, 7, 0), (anchor.phi_in, 9, 1)):
        assert phi.dtype == wanted
        assert torch.equal(phi, basis(name, n, 4, seed=3, side=side, dtype=wanted))


@pytest.mark.parametrize("name", [n for n, entry in BASES.items() if entry.nested])
def test_a_wider_slot_keeps_the_columns_of_a_nested_basis(name):
    record = BasisRecord(0.5, name, 3, 2)
    small, large = (record.anchor(7, 9, r, like=torch.zeros(1)) for r in (2, 5))
    torch.testing.assert_close(large.phi_out[:, :2], small.phi_out, rtol=0, atol=0)
    torch.testing.assert_close(large.phi_in[:, :2], small.phi_in, rtol=0, atol=0)


def test_a_wider_slot_pads_a_frame_that_is_not_nested_with_zeros():
    record = BasisRecord(0.5, "etf", 3, 3)
    small, large = (record.anchor(7, 9, r, like=torch.zeros(1)) for r in (3, 6))
    assert torch.equal(large.phi_out[:, :3], small.phi_out)
    assert not large.phi_out[:, 3:].any()


def test_layers_of_equal_width_share_one_basis(llama):
    model = get_peft_model(llama(), lora_config())
    model.add_adapter("other", lora_config())
    by_width: dict[tuple[str, int], set[int]] = {}
    for name in ("default", "other"):
        for layer in lora_layers(model, name):
            n, m = layer.get_base_layer().weight.shape
            anchor = layer.lora_basis[name].anchor(n, m, 4, like=torch.zeros(1))
            by_width.setdefault(("out", n), set()).add(anchor.phi_out.data_ptr())
            by_width.setdefault(("in", m), set()).add(anchor.phi_in.data_ptr())
    assert len(by_width) >= 4
    assert all(len(pointers) == 1 for pointers in by_width.values())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_casting_the_model_does_not_round_beta(llama, form, dtype):
    base = llama()
    wanted = {
        name: beta(module.weight, 4)
        for name, module in base.named_modules()
        if name.endswith(tuple(lora_config().target_modules))
    }
    model = get_peft_model(base, lora_config(form)).to(dtype)
    for name, value in wanted.items():
        layer = model.base_model.model.get_submodule(name)
        assert layer.lora_basis["default"].beta == value
        assert layer.lora_basis["default"].weight.dtype == torch.int64


def test_beta_is_read_at_every_forward_pass(llama, ids):
    """Loading and hot-swapping write it in place."""
    model = get_peft_model(llama(), lora_config())
    scramble(model, "default")
    layer = lora_layers(model)[0]
    x = torch.randn(2, 32)
    before = layer(x)
    layer.lora_basis["default"].weight[0] = 0
    dA, dB = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(layer(x), layer.get_base_layer()(x) + x @ dA.T @ dB.T)
    assert not torch.equal(layer(x), before)


def test_records_do_not_train_and_are_no_parameters(llama):
    model = get_peft_model(llama(), lora_config())
    assert not any("lora_basis" in name for name, _ in model.named_parameters())
    assert sum("lora_basis" in name for name, _ in model.named_buffers()) == len(lora_layers(model))


def test_printed_layer_shows_beta_and_basis(llama):
    model = get_peft_model(llama(), lora_config("loram(basis=etf, seed=3)"))
    assert "basis=etf, seed=3" in repr(model)


# ---- registration --------------------------------------------------------------------------------

TOUCHED = [
    LoraConfig,
    LoraModel,
    LoraLayer,
    Linear,
    PeftModel,
    peft.utils.hotswap,
]


def functions() -> list[dict[str, object]]:
    return [dict(vars(owner)) for owner in TOUCHED]


def same(a: list[dict[str, object]], b: list[dict[str, object]]) -> bool:
    return all(
        x.keys() == y.keys() and all(x[k] is y[k] for k in x if not k.startswith("_abc"))
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def registered():
    yield
    unregister()
    register()


@pytest.mark.usefixtures("registered")
def test_registering_twice_changes_nothing_and_unregistering_gives_pefts_own_functions_back():
    with_loram = functions()
    register()
    assert same(functions(), with_loram)
    unregister()
    own = functions()
    assert not same(own, with_loram)
    unregister()
    assert same(functions(), own)
    register()
    assert not same(functions(), own)
    unregister()
    assert same(functions(), own)


@pytest.mark.usefixtures("registered")
def test_strings_are_pefts_error_while_unregistered_and_work_again_after(llama):
    unregister()
    with pytest.raises(ValueError, match="Unknown initialization"):
        get_peft_model(llama(), lora_config())
    register()
    get_peft_model(llama(), lora_config())


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("init", [True, "gaussian", "pissa", "olora", "orthogonal"])
def test_other_inits_are_bit_identical_with_and_without_loram(llama, init):
    def fresh():
        torch.manual_seed(3)
        return state(get_peft_model(llama(), lora_config(init)))

    with_loram = fresh()
    unregister()
    without = fresh()
    assert with_loram.keys() == without.keys()
    assert all(torch.equal(with_loram[k], without[k]) for k in without)


def test_wrapped_functions_keep_name_and_signature():
    import inspect

    parameters = inspect.signature(PeftModel.from_pretrained).parameters
    assert list(parameters)[:2] == ["model", "model_id"]
    assert "combination_type" in inspect.signature(LoraModel.add_weighted_adapter).parameters
    assert LoraModel.add_weighted_adapter.__doc__


def test_public_names_are_the_documented_ones():
    assert {"apply_", "factors", "LoramError", "DeadAdapterError"} <= set(loram.__all__)
