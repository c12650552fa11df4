"""Magnitudes of a live adapter against ‖s(BA − B⁰A⁰)‖²/(nm) in float64, and the log of them."""

import json
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel, get_peft_model
from small import gpt2_config, lora_config, lora_layers, scramble, train

from loram.peft.layers import record_of
from loram.probe import LayerMagnitudes, MagnitudeLog, MagnitudeProbe

INITS = [True, "gaussian", "pissa", "loram", "loram(basis=etf, seed=3)", "loram_residual"]
SETTINGS = [
    {},
    {"use_rslora": True, "lora_alpha": 6},
    {"rank_pattern": {"q_proj": 2, "up_proj": 6}, "alpha_pattern": {"k_proj": 9}, "lora_alpha": 7},
]


def named(model, adapter="default"):
    found = lora_layers(model, adapter)
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if module in found
    }


def absolute(model, adapter="default"):
    """B (n, r), A (r, m) of every layer in float64, B⁰ and A⁰ added where deviations are stored."""
    factors = {}
    for name, layer in named(model, adapter).items():
        A = layer.lora_A[adapter].weight.detach().double()
        B = layer.lora_B[adapter].weight.detach().double()
        if layer.lora_variant.get(adapter).__class__.__name__ == "DeviationVariant":
            like = torch.empty(0, dtype=torch.float64)
            anchor = record_of(layer, adapter).anchor(B.shape[0], A.shape[1], A.shape[0], like=like)
            A, B = A + anchor.beta * anchor.phi_in.T, B + anchor.beta * anchor.phi_out
        factors[name] = B, A
    return factors


def oracle(model, start, adapter="default"):
    expected = {}
    for name, (B, A) in absolute(model, adapter).items():
        B0, A0 = start[name]
        update = float(named(model, adapter)[name].scaling[adapter]) * (B @ A - B0 @ A0)
        expected[name] = LayerMagnitudes(
            *(float(X.square().sum() / X.numel()) for X in (A, B, update))
        )
    return expected


def assert_close(read, expected, rel):
    assert read.keys() == expected.keys()
    for name, values in expected.items():
        assert tuple(read[name]) == pytest.approx(values, rel=rel), name


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("init", INITS)
def test_magnitudes_are_those_of_the_definition(llama, ids, init, settings):
    model = get_peft_model(llama(), lora_config(init, **settings))
    probe, start = MagnitudeProbe(model), absolute(model)
    assert_close(probe.read(), oracle(model, start), rel=1e-5)
    assert {each.update for each in probe.read().values()} == {0.0}
    train(model, ids)
    after = probe.read()
    assert_close(after, oracle(model, start), rel=1e-4)
    assert min(each.update for each in after.values()) > 0


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("size", [1e-3, 1e-5])
def test_small_updates_are_not_lost_to_rounding(llama, init, settings, size):
    model = get_peft_model(llama(), lora_config(init, **settings))
    probe, start = MagnitudeProbe(model), absolute(model)
    typical = float(max(A.abs().mean() for _, A in start.values()))
    scramble(model, "default", scale=size * typical)
    assert_close(probe.read(), oracle(model, start), rel=2e-4)


@pytest.mark.parametrize("form", ["loram", "loram_residual"])
def test_the_start_of_loram_is_its_basis_whenever_the_probe_is_made(llama, ids, tmp_path, form):
    model = get_peft_model(llama(), lora_config(form))
    early = MagnitudeProbe(model)
    train(model, ids)
    assert MagnitudeProbe(model).read() == early.read()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert_close(MagnitudeProbe(loaded).read(), early.read(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("autocast", [True, False])
def test_factors_of_other_dtypes_are_read(llama, dtype, autocast):
    base = llama(dtype=dtype)
    model = get_peft_model(base, lora_config("loram"), autocast_adapter_dtype=autocast)
    probe, start = MagnitudeProbe(model), absolute(model)
    scramble(model, "default")
    (factors,) = {p.dtype for p in model.parameters() if p.requires_grad}
    tolerance = 1e-12 if factors == torch.float64 else 1e-4
    assert_close(probe.read(), oracle(model, start), rel=tolerance)


def test_conv1d_is_read_as_linear(gpt2, ids):
    model = get_peft_model(gpt2(), gpt2_config("loram"))
    probe, start = MagnitudeProbe(model), absolute(model)
    train(model, ids)
    assert_close(probe.read(), oracle(model, start), rel=1e-4)


def test_adapters_are_told_apart(llama):
    model = get_peft_model(llama(), lora_config("loram"))
    model.add_adapter("other", lora_config(True, r=2, target_modules=["q_proj"]))
    other, start = MagnitudeProbe(model, "other"), absolute(model, "other")
    default = MagnitudeProbe(model).read()
    scramble(model, "other")
    assert MagnitudeProbe(model).read() == default
    assert MagnitudeProbe(model, "default").read() == default
    assert_close(other.read(), oracle(model, start, "other"), rel=1e-4)
    assert len(other.read()) == 2


def test_reading_changes_nothing(llama):
    model = get_peft_model(llama(), lora_config("loram"))
    scramble(model, "default")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    probe = MagnitudeProbe(model)
    assert probe.read() == probe.read()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_model_without_layers_is_refused(llama):
    with pytest.raises(ValueError, match="no LoRA layer with an adapter 'default'"):
        MagnitudeProbe(llama())
    model = get_peft_model(llama(), lora_config("loram"))
    with pytest.raises(ValueError, match="no LoRA layer with an adapter 'typo'"):
        MagnitudeProbe(model, "typo")


# ---- the log -------------------------------------------------------------------------------------


def steps(log: MagnitudeLog, first: int, last: int) -> None:
    """The Trainer's calls from a checkpoint at `first` to a step `last`."""
    state = SimpleNamespace(global_step=first)
    log.on_train_begin(None, state, None)
    for state.global_step in range(first + 1, last + 1):
        log.on_step_end(None, state, None)


def logged(file) -> list[int]:
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


@pytest.fixture
def model(llama):
    return get_peft_model(llama(), lora_config("loram"))


def test_the_log_has_the_start_and_a_line_a_step(model, tmp_path):
    file = tmp_path / "made" / "magnitudes.jsonl"
    steps(MagnitudeLog(model, file), 0, 3)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    expected = {name: list(values) for name, values in MagnitudeProbe(model).read().items()}
    assert all(row["layers"] == expected for row in rows)


def test_the_log_may_have_a_line_every_few_steps(model, tmp_path):
    steps(MagnitudeLog(model, tmp_path / "log", every=3), 0, 7)
    assert logged(tmp_path / "log") == [0, 3, 6]


@pytest.mark.parametrize("last", ["", '{"step": 5, "lay', '{"step": 5, "layers": {"a": [1', "{}\n"])
@pytest.mark.parametrize("checkpoint", [0, 2, 4])
def test_a_resumed_log_reads_as_if_nothing_had_happened(model, tmp_path, checkpoint, last):
    file = tmp_path / "log"
    steps(MagnitudeLog(model, file), 0, 4)
    whole = file.read_text()
    file.write_text(whole + last)
    steps(MagnitudeLog(model, file), checkpoint, 4)
    assert file.read_text() == whole


def test_a_new_run_starts_a_new_log(model, tmp_path):
    file = tmp_path / "log"
    file.write_text('{"step": 0, "layers": {"of another": [1, 2, 3]}}\n')
    steps(MagnitudeLog(model, file), 0, 1)
    assert logged(file) == [0, 1]
    assert "of another" not in file.read_text()


def test_cutting_the_log_back_is_all_or_nothing(model, tmp_path, monkeypatch):
    """A kill while the log is cut back must not lose the lines before the checkpoint."""
    file = tmp_path / "log"
    steps(MagnitudeLog(model, file), 0, 4)
    whole = file.read_text()
    log = MagnitudeLog(model, file)

    def die(path, text, *args, **kwargs):
        path.open("w").close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", die)
        with pytest.raises(KeyboardInterrupt):
            log.on_train_begin(None, SimpleNamespace(global_step=2), None)
    steps(MagnitudeLog(model, file), 2, 4)
    assert file.read_text() == whole
