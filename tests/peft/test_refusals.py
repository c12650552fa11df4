"""What LoRAM refuses: with the layer and the way out in the message, and with nothing changed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer
from small import (
    FORMS,
    assert_same_state,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    scramble,
    state,
    train,
    trained,
)
from torch import Tensor, nn
from transformers import PreTrainedModel

import loram
from loram import LoramError
from loram.peft import LoramInit, parse

# PEFT's word on wrapping a model twice, which these tests do on purpose.
second_time = [
    pytest.mark.filterwarnings("ignore:You are trying to modify a model with PEFT for a second"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute"),
]


class Pair(nn.Module):
    """A layer that is fine, before one that may not be: nothing may happen to either."""

    def __init__(self, bad: nn.Module) -> None:
        super().__init__()
        self.good, self.bad = nn.Linear(8, 8), bad


class Unknown(nn.Linear):
    """Computes something else with its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T.exp()


def filled(layer: nn.Module, value: float | str) -> nn.Module:
    """All of the weight, or one entry of it."""
    with torch.no_grad():
        if isinstance(value, str):
            layer.weight[1, 1] = float(value)
        else:
            layer.weight.fill_(value)
    return layer


def integer() -> nn.Linear:
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)
    return layer


def through_config(model: nn.Module, init: str, **settings) -> None:
    get_peft_model(model, lora_config(init, target_modules=["good", "bad"], **settings))


def through_apply(model: nn.Module, init: str, **settings) -> None:
    config = lora_config(True, target_modules=["good", "bad"], **settings)
    loram.apply_(get_peft_model(model, config), init)


BAD = {
    "all zero": (lambda: filled(nn.Linear(8, 8), 0.0), 4, r"ν\[W\] = 0.*leave the layer out"),
    "nan": (lambda: filled(nn.Linear(8, 8), "nan"), 4, "NaN or Inf"),
    "inf": (lambda: filled(nn.Linear(8, 8), "inf"), 4, "NaN or Inf"),
    "too narrow": (lambda: nn.Linear(8, 3), 4, r"1 ≤ r ≤ min\(n, m\) = 3"),
    "one row": (lambda: nn.Linear(8, 1), 2, r"1 ≤ r ≤ min\(n, m\) = 1"),
    "int8": (integer, 4, "int8.*quantised weights are not supported"),
    "max_norm": (lambda: nn.Embedding(8, 8, max_norm=1.0), 4, "Embedding: .*(max_norm|residual)"),
    "padding": (
        lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        4,
        "Conv2d: .*(padding_mode='reflect'.*leave it out|residual)",
    ),
    "dilation": (lambda: nn.Conv1d(8, 8, 2, dilation=2), 4, "Conv1d: .*(dilation|residual)"),
    "unknown": (lambda: Unknown(8, 8), 4, "Unknown is not supported.*exclude_modules"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_layer_is_refused_by_name_before_any_layer_is_touched(form, bad):
    make, r, message = BAD[bad]
    model = Pair(make())
    with nothing_changes(model):
        with pytest.raises(LoramError, match=rf"(?s)nothing was changed.*bad: .*{message}"):
            through_config(model, form, r=r)
        assert not any(isinstance(m, LoraLayer) for m in model.modules())
    # The way out: leave it out.
    config = lora_config(form, r=r, target_modules=["good", "bad"], exclude_modules=["bad"])
    assert len(lora_layers(get_peft_model(model, config))) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [b for b in BAD if b != "int8"])  # PEFT itself fails on it
def test_apply_refuses_the_same_and_leaves_plain_lora(form, bad):
    make, r, message = BAD[bad]
    config = lora_config(True, r=r, target_modules=["good", "bad"])
    model = get_peft_model(Pair(make()), config)
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match=rf"(?s)nothing was changed.*bad: .*{message}"),
    ):
        loram.apply_(model, form)
    assert config.init_lora_weights is True


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [through_config, through_apply])
def test_rank_one_with_the_log_gain_is_refused_and_with_another_gain_is_not(form, make):
    with pytest.raises(LoramError, match=r"good: .*rank 1.*r ≥ 2, gain=spectral"):
        make(Pair(nn.Linear(8, 8)), form, r=1)
    for gain in ("spectral", "0.1"):
        make(Pair(nn.Linear(8, 8)), f"{form}(gain={gain})", r=1)


def test_one_row_weight_takes_rank_one_at_full_gain():
    model = Pair(nn.Linear(8, 1))
    through_config(model, "loram", r=1, exclude_modules=["good"])
    (layer,) = lora_layers(model)
    weight = layer.get_base_layer().weight.detach()
    anchor = layer.lora_basis["default"].anchor(1, 8, 1, like=weight)
    product = anchor.beta**2 * anchor.phi_out.double() @ anchor.phi_in.T.double()
    torch.testing.assert_close(product.square().mean(), weight.double().square().mean())


def test_all_problems_are_reported_at_once():
    model = Pair(nn.Embedding(8, 8, max_norm=1.0))
    filled(model.good, "nan")
    with pytest.raises(LoramError) as error:
        through_config(model, "loram", use_dora=True)
    for part in ("good: ", "bad: ", "use_dora", "NaN", "Embedding"):
        assert part in str(error.value)


# ---- what goes with which form -------------------------------------------------------------------


def test_dora_is_refused_in_the_deviation_form_and_sent_to_the_residual_form(llama):
    base = llama()
    with nothing_changes(base), pytest.raises(LoramError, match=r"use_dora.*'loram_residual'"):
        get_peft_model(base, lora_config(use_dora=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_parameters": ["q_proj.weight"]}, "target_modules: name one of the two"),
        ({"ensure_weight_tying": True}, "use False"),
        ({"alora_invocation_tokens": [1, 2]}, "leave one of the two out"),
        ({"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}}, "leave one of the two"),
    ],
)
def test_settings_that_loram_cannot_go_with_are_refused(llama, form, settings, message):
    base = llama()
    config = lora_config(form, task_type="CAUSAL_LM", **settings)
    with nothing_changes(base), pytest.raises(LoramError, match=message):
        get_peft_model(base, config)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # PEFT's
def test_residual_form_on_a_tied_head_is_refused(llama, ids):
    base = llama(tied=True)
    config = lora_config("loram_residual", target_modules=["q_proj", "lm_head"])
    message = r"lm_head: .*tied.*init_lora_weights='loram'"
    with nothing_changes(base), pytest.raises(LoramError, match=message):
        get_peft_model(base, config)
    untied = get_peft_model(llama(), config)
    assert relative(logits(untied, ids), logits(llama(), ids)) < 1e-5


def test_residual_form_with_replicated_layers_is_refused(llama):
    base = llama()
    config = lora_config("loram_residual", layer_replication=[[0, 2], [0, 2]])
    with nothing_changes(base), pytest.raises(LoramError, match="layer_replication"):
        get_peft_model(base, config)


def test_weight_on_the_meta_device_is_refused(llama):
    with torch.device("meta"):
        base = llama()
    with pytest.raises(LoramError, match=r"meta device.*load the base model first"):
        get_peft_model(base, lora_config())


@pytest.mark.parametrize("form", FORMS)
def test_projection_that_its_module_never_calls_is_refused(form):
    """MultiheadAttention reads out_proj.weight itself: an adapter there is ignored, and with a
    rewritten weight the model is silently another."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    config = lora_config(form, target_modules=["out_proj"])
    with nothing_changes(model), pytest.raises(LoramError, match="out_proj"):
        get_peft_model(model, config)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm], ids=["new", "hooks"]
)
def test_computed_weight_has_its_own_beta_or_is_refused(form, norm):
    """`weight` is then made anew, at every access or call: writing to it is lost, ids recur."""
    model = nn.Sequential()
    for power in range(6):
        layer = nn.Linear(8, 8)
        with torch.no_grad():
            layer.weight.mul_(10.0**power)
        model.add_module(f"layer{power}", norm(layer))
    model.eval()
    x = torch.randn(3, 8)
    expected, weights = model(x).detach(), [layer.weight.detach().clone() for layer in model]
    config = lora_config(form, target_modules=[f"layer{power}" for power in range(6)])
    try:
        wrapped = get_peft_model(model, config).eval()
    except LoramError:
        return
    for layer, weight in zip(lora_layers(wrapped), weights, strict=True):
        assert layer.lora_basis["default"].beta == pytest.approx(loram.factors(weight, 4).beta)
    assert relative(wrapped(x), expected) < 1e-5


# ---- the string ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loram(gian=log)", "Did you mean gain"),
        ("loram(colour=red)", r"unknown option 'colour=red'.*Options: gain=.*basis=.*seed="),
        ("loram(gain=big)", "gain=big is not one of log, spectral, a positive number"),
        ("loram(gain=0)", "positive number"),
        ("loram(gain=-1)", "positive number"),
        ("loram(gain=nan)", "positive number"),
        ("loram(gain=1e999)", "positive number"),
        ("loram(basis=dct)", "dst, orthogonal, gaussian, etf"),
        ("loram(seed=-1)", "from 0 to 2147483647"),
        ("loram(seed=2147483648)", "from 0 to 2147483647"),
        ("loram(seed=1.5)", "from 0 to 2147483647"),
        ("loram(statistic=median)", "mean_square, var"),
        ("loram_residual(keep_base=yes)", "true, false"),
        ("loram(keep_base=true)", "keep_base belongs to loram_residual"),
        ("loram(gain=log, gain=log)", "'gain' is given twice"),
        ("loram(gain)", "unknown option 'gain'"),
        ("loram(gain=log", "expected loram or loram_residual"),
        ("loram)", "expected loram or loram_residual"),
        ("loram gain=log", "expected loram or loram_residual"),
        ("loram_deviation", "expected loram or loram_residual"),
        ("loramx", "expected loram or loram_residual"),
        ("loram(gain=log)(seed=1)", "gain=log"),
    ],
)
def test_bad_string_is_refused_when_the_config_is_made(text, message):
    with pytest.raises(ValueError, match=rf"(?s)init_lora_weights=.*{message}"):
        LoraConfig(init_lora_weights=text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("loram", LoramInit()),
        ("loram()", LoramInit()),
        (" LoRAM ", LoramInit()),
        ("loram_residual", LoramInit("loram_residual")),
        ("loram( gain = spectral , seed=7 )", LoramInit(gain="spectral", seed=7)),
        ("loram(gain=0.25,basis=ETF)", LoramInit(gain=0.25, basis="etf")),
        ("loram(statistic=var)", LoramInit(statistic="var")),
        ("loram_residual(keep_base=true)", LoramInit("loram_residual", keep_base=True)),
    ],
)
def test_good_string_is_understood(text, wanted):
    assert parse(text) == wanted
    assert LoraConfig(init_lora_weights=text).init_lora_weights == text


@pytest.mark.parametrize("value", [True, False, None, "gaussian", "pissa", "lora", 1])
def test_what_is_not_ours_is_none(value):
    assert parse(value) is None


@pytest.mark.parametrize("form", FORMS)
def test_adalora_is_refused(form):
    with pytest.raises(LoramError, match="LoraConfig, got AdaLoraConfig"):
        AdaLoraConfig(init_lora_weights=form, total_step=10)


# ---- other adapters on the base ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "other"])
@second_time[0]
@second_time[1]
def test_second_get_peft_model_repeats_itself_in_the_deviation_form(llama, ids, name):
    base = llama()
    expected = logits(base, ids)
    first = get_peft_model(base, lora_config())
    reference = state(first)
    again = get_peft_model(base, lora_config(), adapter_name=name)
    assert torch.equal(logits(again, ids), expected)
    if name == "default":
        assert_same_state(state(again), reference)
    train(again, ids)
    assert torch.equal(logits(again.unload(), ids), expected)


@pytest.mark.parametrize("second", ["loram_residual", "loram", True])
@pytest.mark.parametrize("name", ["default", "other"])
@second_time[0]
@second_time[1]
def test_second_get_peft_model_on_a_rewritten_base_is_refused(llama, ids, second, name):
    base = llama()
    model = trained(base, lora_config("loram_residual"), ids)
    expected = logits(model, ids)
    with nothing_changes(base), pytest.raises(LoramError, match=r"rewritten.*unload"):
        get_peft_model(base, lora_config(second), adapter_name=name)
    assert torch.equal(logits(model, ids), expected)


@pytest.mark.parametrize("form", FORMS)
@second_time[0]
@second_time[1]
def test_after_unload_a_second_injection_is_welcome(llama, ids, form):
    base = llama()
    expected = logits(base, ids)
    plain = trained(base, lora_config("loram_residual(keep_base=true)"), ids).unload()
    again = get_peft_model(plain, lora_config(form))
    assert relative(logits(again, ids), expected) < 1e-5


@pytest.mark.parametrize(
    ("resident", "newcomer"),
    [("loram_residual", "loram"), ("loram_residual", True), ("loram_residual", "loram_residual")],
)
def test_no_adapter_joins_a_residual_one(llama, resident, newcomer):
    model = get_peft_model(llama(), lora_config(resident))
    with nothing_changes(model), pytest.raises(LoramError, match="init_lora_weights='loram'"):
        model.add_adapter("other", lora_config(newcomer))
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("resident", ["loram", True])
def test_a_residual_adapter_joins_no_other(llama, resident):
    model = get_peft_model(llama(), lora_config(resident))
    with nothing_changes(model), pytest.raises(LoramError, match="only adapter"):
        model.add_adapter("other", lora_config("loram_residual"))
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_loram_joins_no_adapter_that_has_rewritten_the_base(llama, form, init):
    model = get_peft_model(llama(), lora_config(init))
    with nothing_changes(model), pytest.raises(LoramError, match=f"{init}.*rewritten"):
        model.add_adapter("other", lora_config(form))


def test_pissa_joining_loram_is_refused(llama):
    """It would rewrite the base under the LoRAM adapter."""
    model = get_peft_model(llama(), lora_config())
    with nothing_changes(model), pytest.raises(LoramError):
        model.add_adapter("other", lora_config("pissa"))


def test_adapter_over_a_merged_one_is_refused(llama):
    model = get_peft_model(llama(), lora_config())
    scramble(model, "default")
    model.merge_adapter()
    with nothing_changes(model), pytest.raises(LoramError, match="unmerge_adapter"):
        model.add_adapter("other", lora_config())


@pytest.mark.parametrize("form", FORMS)
def test_mixed_models_pass_the_preflight_too(form):
    """`get_peft_model(mixed=True)` goes past `LoraModel.inject_adapter`."""
    model = Pair(filled(nn.Linear(8, 8), "nan"))
    with nothing_changes(model), pytest.raises(ValueError, match=r"bad: .*NaN|mixed"):
        get_peft_model(model, lora_config(form, target_modules=["good", "bad"]), mixed=True)


# ---- without loram -------------------------------------------------------------------------------


def test_a_process_without_loram_fails_loudly_on_a_raw_adapter(llama, tmp_path):
    llama().save_pretrained(tmp_path / "base")
    for form in FORMS:
        get_peft_model(llama(), lora_config(form)).save_pretrained(tmp_path / form)
    script = """
import sys
from peft import PeftModel
from transformers import LlamaForCausalLM
for form in sys.argv[2:]:
    try:
        PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(sys.argv[1] + "/base"),
                                  sys.argv[1] + "/" + form)
    except ValueError as error:
        print(form, "refused:", error)
assert "loram" not in sys.modules
"""
    environment = {k: v for k, v in os.environ.items() if k != "LORAM_INIT"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), *FORMS],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    for form in FORMS:
        assert f"{form} refused: Unknown initialization init_lora_weights='{form}'" in done.stdout


# ---- LORAM_INIT, which `loram run` sets ----------------------------------------------------------


@pytest.fixture
def default_init(monkeypatch) -> Callable[[str], None]:
    return lambda init: monkeypatch.setenv("LORAM_INIT", init)


@pytest.mark.parametrize("form", FORMS)
def test_default_init_turns_plain_lora_into_loram(llama, ids, default_init, form):
    default_init(form)
    model = trained(llama(), lora_config(True), ids)
    assert model.peft_config["default"].init_lora_weights == form
    expected = logits(model, ids)
    reference = trained(llama(), lora_config(form), ids)
    assert torch.equal(logits(reference, ids), expected)


def test_default_init_leaves_other_requests_alone(llama, ids, default_init):
    default_init("loram")
    for init in ("gaussian", False, "loram(basis=etf)"):
        model = get_peft_model(llama(), lora_config(init))
        assert model.peft_config["default"].init_lora_weights == init
    config = AdaLoraConfig(target_modules=["q_proj"], total_step=10)
    model = get_peft_model(llama(), config)
    assert model.peft_config["default"].init_lora_weights is True
    logits(model, ids)


def test_default_init_leaves_weighted_sums_alone(llama, default_init):
    """PEFT injects a plain adapter for the sum, and then writes factors into it."""
    model = get_peft_model(llama(), lora_config(), "first")
    model.add_adapter("second", lora_config("loram(basis=etf)"))
    for seed, name in enumerate(("first", "second")):
        scramble(model, name, seed)
    default_init("loram")
    model.add_weighted_adapter(["first", "second"], [1.0, 1.0], "sum", svd_rank=16)
    for layer in lora_layers(model, "sum"):
        wanted = layer.get_delta_weight("first") + layer.get_delta_weight("second")
        assert relative(layer.get_delta_weight("sum"), wanted) < 1e-5


@pytest.mark.parametrize("own", [False, True])
def test_default_init_leaves_loading_alone(
    llama: Callable[..., PreTrainedModel], ids, default_init, tmp_path: Path, own: bool
):
    """`own`: by transformers' own load_adapter, which knows nothing of PeftModel."""
    model = trained(llama(), lora_config(True), ids)
    model.save_pretrained(tmp_path)
    default_init("loram")
    if own:
        loaded = llama()
        loaded.load_adapter(str(tmp_path))
    else:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-6


def test_bad_default_init_says_so(llama, default_init):
    default_init("loram(gian=log)")
    with pytest.raises(ValueError, match="Did you mean gain"):
        inject_adapter_in_model(lora_config(True), llama())
