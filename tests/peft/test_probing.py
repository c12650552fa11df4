"""Magnitudes of a live adapter against ‖s(BA − B⁰A⁰)‖²/(nm) in float64, and the log of them."""

import json
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel, get_peft_model
from small import gpt2_config, lora_config, lora_layers, scramble, train
from transformers import Trainer, TrainerCallback, TrainingArguments

from loram.magnitude import nu
from loram.methods import METHODS
from loram.peft.attach import attach
from loram.peft.layers import record_of
from loram.probe import (
    LayerMagnitudes,
    LayerStep,
    MagnitudeLog,
    MagnitudeProbe,
    WeightProbe,
    summary,
)

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
        A, B = (
            side[adapter].weight.detach().double().clone() for side in (layer.lora_A, layer.lora_B)
        )
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


# ---- a step --------------------------------------------------------------------------------------


def updates(model, start, adapter="default"):
    """W_LoRA of every layer, dense in float64."""
    return {
        name: float(named(model, adapter)[name].scaling[adapter]) * (B @ A - B0 @ A0)
        for (name, (B, A)), (B0, A0) in zip(
            absolute(model, adapter).items(), start.values(), strict=True
        )
    }


def assert_a_step_is_read(model, probe, start, before, *, rel, adapter="default"):
    """Every column against the definition; `before` is what the updates were a step ago."""
    now, read = updates(model, start, adapter), probe.step()
    magnitudes = oracle(model, start, adapter)
    assert read.keys() == now.keys()
    for name, got in read.items():
        layer = named(model, adapter)[name]
        assert got[:3] == pytest.approx(magnitudes[name], rel=rel), name
        step = float((now[name] - before[name]).square().mean())
        assert got.step == pytest.approx(step, rel=rel), name
        pair = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        grads = [p.grad for p in pair if p.grad is not None]
        norms = tuple(float(grad.double().norm()) for grad in grads) or (None, None)
        for seen, norm in zip((got.grad_A, got.grad_B), norms, strict=True):
            assert seen == (None if norm is None else pytest.approx(norm, rel=1e-5))
        sigma = torch.linalg.svdvals(now[name])
        p = sigma / sigma.sum()
        assert got.stable_rank == pytest.approx(float((sigma / sigma[0]).square().sum()), rel=rel)
        assert got.effective_rank == pytest.approx(
            float(torch.special.entr(p).sum().exp()), rel=1e-3
        )


@pytest.mark.parametrize("method", [row for row in METHODS.values() if row.init is not None])
def test_every_row_of_the_table_is_read(llama, ids, method):
    base = llama()
    pretrained = {name: p.detach().clone() for name, p in base.named_parameters()}
    batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    calibration = [batch] * 200 if method.init == "eva" else [batch]
    targets = "q_proj,up_proj,down_proj"
    model, _ = attach(
        base, method, rank=4, alpha=6, target_modules=targets, calibration=calibration
    )
    probe, start = MagnitudeProbe(model), absolute(model)
    for name, magnitude in probe.weights.items():
        if method.name != "lora-one":  # W after its first step
            assert magnitude == pytest.approx(nu(pretrained[f"{name}.weight"]), rel=1e-5)
    assert {each.step for each in probe.step().values()} == {None}
    train(model, ids, steps=1, lr=0.1)
    before = updates(model, start)
    assert_a_step_is_read(model, probe, start, dict.fromkeys(before, 0), rel=2e-4)
    train(model, ids, steps=1, lr=0.1)
    assert_a_step_is_read(model, probe, start, before, rel=2e-4)


@pytest.mark.parametrize("form", ["loram", "loram_residual"])
@pytest.mark.parametrize("size", [1e-2, 1e-5])
def test_small_steps_far_from_the_start_are_not_lost_to_rounding(llama, form, size):
    base = llama(dtype=torch.float64)
    model = get_peft_model(base, lora_config(form), autocast_adapter_dtype=False)
    probe, start = MagnitudeProbe(model), absolute(model)
    scramble(model, "default")
    probe.mark()
    before = updates(model, start)
    scramble(model, "default", seed=1, scale=0.05 * size)
    assert_a_step_is_read(model, probe, start, before, rel=1e-8)


def test_steps_of_adapters_are_told_apart(llama):
    model = get_peft_model(llama(), lora_config("loram"))
    model.add_adapter("other", lora_config(True, r=2, target_modules=["q_proj"]))
    default, other = MagnitudeProbe(model), MagnitudeProbe(model, "other")
    start = absolute(model, "other")
    default.mark()
    other.mark()
    scramble(model, "other")
    assert {each.step for each in default.step().values()} == {0.0}
    zero = dict.fromkeys(start, 0)
    assert_a_step_is_read(model, other, start, zero, rel=1e-4, adapter="other")


def test_a_layer_that_has_not_moved_or_is_not_finite_has_no_rank(llama):
    model = get_peft_model(llama(), lora_config("loram"))
    probe = MagnitudeProbe(model, weights=False)
    assert probe.weights == {}
    assert {each.stable_rank for each in probe.step().values()} == {None}
    next(iter(lora_layers(model))).lora_A["default"].weight.data[0, 0] = torch.nan
    first, *others = probe.step().values()
    assert first.update != first.update
    assert (first.step, first.effective_rank) == (None, None)
    assert all(each.update == 0 for each in others)


def test_full_fine_tuning_is_measured_against_a_copy(llama, ids):
    model = llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    probe = WeightProbe(model, steps=True)
    assert probe.weights.keys() == {
        name.removesuffix(".weight") for name in before if name.endswith("_proj.weight")
    }
    probe.mark()
    for _ in range(2):
        last = {name: p.detach().clone() for name, p in model.named_parameters()}
        train(model, ids, steps=1)
        for name, got in probe.step().items():
            W = dict(model.named_parameters())[f"{name}.weight"].detach()
            assert got.update == pytest.approx(nu(W - before[f"{name}.weight"]), rel=1e-6)
            assert got.step == pytest.approx(nu(W - last[f"{name}.weight"]), rel=1e-6)
            assert probe.weights[name] == nu(before[f"{name}.weight"])
    assert {each.step for each in WeightProbe(model).step().values()} == {None}
    with pytest.raises(ValueError, match="no linear layer of the model trains"):
        WeightProbe(model.requires_grad_(False))


def test_a_summary_has_medians_ratios_and_norms():
    layers = {
        "a": LayerStep(1.0, 2.0, 4.0, 0.5, 3.0, None, 1.5, 2.0),
        "b": LayerStep(3.0, 2.0, 8.0, None, 4.0, None, None, None),
    }
    assert summary(layers, {"a": 4.0, "b": 16.0}) == {
        **{"magnitude/A": 2.0, "magnitude/B": 2.0, "magnitude/update": 6.0, "magnitude/step": 0.5},
        **{"magnitude/grad_A": 5.0, "magnitude/stable_rank": 1.5, "magnitude/effective_rank": 2.0},
        **{"magnitude/update_over_weight": 0.75, "magnitude/update_over_weight_max": 1.0},
        **{"magnitude/step_over_weight": 0.125, "magnitude/step_over_weight_max": 0.125},
    }
    assert not any("over" in key for key in summary(layers))


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
    assert rows[0]["fields"] == list(LayerStep._fields)
    assert rows[0]["weights"] == MagnitudeProbe(model).weights
    for i, row in enumerate(rows):
        for name, values in MagnitudeProbe(model).read().items():
            still = 0.0 if i else None  # nothing trains here; the start has no step before it
            assert row["layers"][name] == [*values, still, None, None, None, None]


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


class Told(TrainerCallback):
    """Stands for TensorBoard: keeps what the Trainer logs."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append((state.global_step, logs))


@pytest.mark.parametrize("every", [1, 2])
def test_the_trainer_reports_and_a_resumed_run_writes_the_same(llama, ids, tmp_path, every):
    def trainer(folder, steps):
        model = get_peft_model(llama(), lora_config(True))
        told = Told()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / folder),
            max_steps=steps,
            per_device_train_batch_size=1,
            learning_rate=0.01,
            lr_scheduler_type="constant",
            save_steps=3,
            logging_steps=4,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        rows = [{"input_ids": row, "labels": row} for row in ids]
        made = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[told])
        log = MagnitudeLog(model, tmp_path / folder / "log", every=every, report=made.log)
        made.add_callback(log)
        return made, told

    whole, told = trainer("whole", 6)
    whole.train()
    text = (tmp_path / "whole" / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == list(range(0, 7, every))
    fields = lines[0]["fields"]
    assert all(None not in layer for line in lines[2:] for layer in line["layers"].values())
    reported = {step: logs for step, logs in told.logs if "magnitude/update" in logs}
    assert sorted(reported) == [line["step"] for line in lines[1:]]
    columns = zip(*lines[-1]["layers"].values(), strict=True)
    last = dict(zip(fields, columns, strict=True))
    assert reported[6]["magnitude/grad_A"] == pytest.approx(
        sum(g**2 for g in last["grad_A"]) ** 0.5
    )
    killed, _ = trainer("killed", 4)
    killed.train()
    resumed, _ = trainer("killed", 6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-3"))
    assert (tmp_path / "killed" / "log").read_text() == text


def test_only_the_first_process_writes(model, tmp_path):
    log = MagnitudeLog(model, tmp_path / "log")
    log.on_train_begin(None, SimpleNamespace(global_step=0, is_world_process_zero=False), None)
    assert not (tmp_path / "log").exists()


def test_logs_that_make_no_sense_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="every=0"):
        MagnitudeLog(model, tmp_path / "log", every=0)
    with pytest.raises(ValueError, match="leave out adapter='default'"):
        MagnitudeLog(MagnitudeProbe(model), tmp_path / "log", adapter="default")
