"""Every row of the table of layer kinds, and every cell of docs/layers.md, on a tiny layer."""

import copy
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from coverage_layers import CASES, Case
from peft import PeftModel, get_peft_model
from small import assert_same_state, base_stays, lora_layers, nothing_changes, relative, state
from torch import Tensor, nn
from torch.func import functional_call

import loram
from loram import LoramError
from loram.peft.export import export_merged, export_plain
from loram.peft.kinds import KINDS, Kind, kind_of, site_of
from loram.peft.layers import base_weight, factor_matrices, factor_weights, record_of
from loram.probe import MagnitudeProbe

# PEFT's word on merging an attention, whose projection it meets twice.
pytestmark = [
    pytest.mark.filterwarnings("ignore:All adapters are already merged"),
    pytest.mark.filterwarnings("ignore:Already unmerged"),
    pytest.mark.filterwarnings("ignore:Already following adapters were merged"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]

ROWS = {kind.name: kind for kind in KINDS}
ALL = [
    pytest.param(ROWS[name], case, id=f"{name} {variety}".strip())
    for name, cases in CASES.items()
    if name in ROWS and isinstance(cases, dict)
    for variety, case in cases.items()
]
every = pytest.mark.parametrize(("kind", "case"), ALL)


def adapted(case: Case, init: Any = "loram", dtype: torch.dtype = torch.float32, **settings: Any):
    return get_peft_model(case.net(dtype), case.config(init, **settings))


def scramble(model: nn.Module, adapter: str = "default", seed: int = 0) -> None:
    """Moves the factors as training would, but for what never gets a gradient."""
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model, adapter):
        for factor in factor_weights(layer, adapter):
            noise = torch.randn(factor.shape, generator=generator, dtype=torch.float64)
            factor.data += (0.1 * noise).to(factor)
        padding = getattr(layer.get_base_layer(), "padding_idx", None)
        if padding is not None:
            factor_weights(layer, adapter)[0].data[:, padding] = 0


def test_every_row_has_its_tests():
    assert set(CASES) >= set(ROWS)
    for proof in CASES.values():
        assert not isinstance(proof, str) or (Path(__file__).parent / proof).is_file()


@every
def test_case_is_of_its_row(kind: Kind, case: Case):
    layers = lora_layers(adapted(case))
    assert len(layers) == case.sites
    assert kind_of(site_of(layers[0])) is kind


# ---- the deviation form --------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nothing_has_changed_at_step_0(kind: Kind, case: Case, dtype: torch.dtype):
    x = case.input(dtype)
    model = adapted(case, dtype=dtype)
    assert torch.equal(model(x), case.net(dtype)(x))
    for layer in lora_layers(model):
        assert record_of(layer, "default").beta > 0
        assert all((factor == 0).all() for factor in factor_weights(layer, "default"))


@every
def test_product_has_the_magnitude_of_the_paper(kind: Kind, case: Case):
    """ν[B⁰A⁰] = Q[r] ν[W] (eq. 11), over the experts of a stack together."""
    for layer in lora_layers(adapted(case, "loram(gain=0.25)")):
        W = base_weight(layer).double()
        n, m = W.shape[-2:]
        anchor = record_of(layer, "default").anchor(n, m, 2, like=W)
        product = (anchor.beta**2).item() ** 2 * 2 / (n * m)
        assert product == pytest.approx(0.25 * W.square().mean().item())


class Absolute:
    """The layer written by hand: its weights are W + s(BA − B⁰A⁰), A and B trained (Algorithm 1).

    In float64, by autograd alone.
    """

    def __init__(self, case: Case, model: nn.Module, adapter: str = "default") -> None:
        self.net = case.net(torch.float64)
        self.parts: list[dict[str, Any]] = []
        for layer in lora_layers(model, adapter):
            site = site_of(layer)
            dA, dB = (f.detach().double().clone() for f in factor_matrices(layer, adapter))
            anchor = record_of(layer, adapter).anchor(
                dB.shape[-2], dA.shape[-1], dA.shape[-2], like=dA
            )
            A0, B0 = anchor.A0.expand_as(dA), anchor.B0.expand_as(dB)
            base = getattr(site.base, site.parameter or kind_of(site).weight)
            (name,) = (n for n, p in self.net.named_parameters() if same_values(p, base))
            self.parts.append(
                {
                    "A": (A0 + dA).requires_grad_(),
                    "B": (B0 + dB).requires_grad_(),
                    "A0": A0,
                    "B0": B0,
                    "s": layer.scaling[adapter],
                    "name": name,
                    "site": site,
                }
            )

    @property
    def factors(self) -> list[Tensor]:
        return [part[key] for part in self.parts for key in ("A", "B")]

    def weights(self) -> dict[str, Tensor]:
        changed = {}
        for part in self.parts:
            update = part["s"] * (part["B"] @ part["A"] - part["B0"] @ part["A0"])
            own = dict(self.net.named_parameters())[part["name"]].detach()
            kind = kind_of(part["site"])
            changed[part["name"]] = own + kind.stored(part["site"], update).view_as(own)
        return changed

    def __call__(self, x: Tensor) -> Tensor:
        return functional_call(self.net, self.weights(), (x,))


def same_values(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.double(), b.double())


def deviations_of(model: nn.Module, adapter: str = "default") -> list[Tensor]:
    return [f for layer in lora_layers(model, adapter) for f in factor_matrices(layer, adapter)]


@every
def test_output_and_gradients_are_those_of_the_absolute_form(kind: Kind, case: Case):
    model = adapted(case, dtype=torch.float64, lora_alpha=3)
    scramble(model)
    oracle, x = Absolute(case, model), case.input(torch.float64)
    got, expected = model(x), oracle(x)
    assert relative(got, expected) < 1e-12
    weights = torch.randn_like(got)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    for layer, part in zip(lora_layers(model), oracle.parts, strict=True):
        place = kind_of(site_of(layer)).place
        grads = place.read(*(p.grad for p in factor_weights(layer, "default")), 2)
        for grad, name in zip(grads, ("A", "B"), strict=True):
            assert relative(grad, part[name].grad) < 1e-10


@every
def test_a_few_steps_train_as_the_absolute_form(kind: Kind, case: Case):
    model = adapted(case, dtype=torch.float64)
    oracle, x = Absolute(case, model), case.input(torch.float64)
    with torch.no_grad():
        target = torch.randn_like(model(x))
    mine = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    theirs = torch.optim.SGD(oracle.factors, lr=0.05)
    losses = []
    for _ in range(5):
        for optimizer, run in ((mine, model), (theirs, oracle)):
            optimizer.zero_grad()
            loss = (run(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[8] < losses[0]
    assert losses[::2] == pytest.approx(losses[1::2], rel=1e-10)
    assert relative(model(x), oracle(x)) < 1e-10


# ---- its life ------------------------------------------------------------------------------------


@every
def test_base_is_never_touched_by_training_and_comes_back(kind: Kind, case: Case):
    x, net = case.input(), case.net().requires_grad_(False)  # an attention is fused then
    expected, before = net(x), state(net)
    with base_stays(net):
        model = get_peft_model(net, case.config())
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            model(x).square().mean().backward()
            optimizer.step()
        assert not torch.equal(model(x), expected)
        with model.disable_adapter():
            assert torch.equal(model(x), expected)
        assert_same_state(state(copy.deepcopy(model).unload()), before)
        model.delete_adapter("default")
        assert torch.equal(model.base_model(x), expected)


@every
@pytest.mark.parametrize("safe", [False, True])
def test_merging_and_unmerging(kind: Kind, case: Case, safe: bool):
    x = case.input(torch.float64)
    model = adapted(case, dtype=torch.float64)
    scramble(model)
    expected, base = model(x).detach(), case.net(torch.float64)(x)
    model.merge_adapter(safe_merge=safe)
    assert relative(model(x), expected) < 1e-12
    model.unmerge_adapter()
    assert relative(model(x), expected) < 1e-12
    with model.disable_adapter():
        assert relative(model(x), base) < 1e-12
    merged = model.merge_and_unload(safe_merge=safe)
    assert relative(merged(x), expected) < 1e-12
    assert set(state(merged)) == set(state(case.net()))


@every
def test_delta_weight_is_the_true_update(kind: Kind, case: Case):
    model = adapted(case, dtype=torch.float64)
    scramble(model)
    oracle = Absolute(case, model)
    for layer, (name, weight) in zip(lora_layers(model), oracle.weights().items(), strict=True):
        delta = weight - dict(oracle.net.named_parameters())[name]
        got = layer.get_delta_weight("default")
        assert got.shape == delta.shape
        assert relative(got, delta) < 1e-10


@every
@pytest.mark.parametrize("low_cpu", [False, True])
def test_save_and_load(kind: Kind, case: Case, tmp_path: Path, low_cpu: bool):
    x = case.input()
    model = adapted(case, "loram(basis=etf, gain=spectral)")
    scramble(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(case.net(), tmp_path, low_cpu_mem_usage=low_cpu)
    assert relative(again(x), model(x)) < 1e-6  # an attention is fused where nothing trains
    for mine, theirs in zip(lora_layers(model), lora_layers(again), strict=True):
        assert torch.equal(mine.lora_basis["default"].weight, theirs.lora_basis["default"].weight)


@every
def test_two_adapters_share_a_base(kind: Kind, case: Case):
    x = case.input(torch.float64)
    model = adapted(case, dtype=torch.float64)
    model.add_adapter("other", case.config("loram(basis=orthogonal)"))
    for seed, name in enumerate(("default", "other")):
        scramble(model, name, seed)
        model.set_adapter(name)
        assert relative(model(x), Absolute(case, model, name)(x)) < 1e-12
    model.base_model.set_adapter(["default", "other"])
    oracles = [Absolute(case, model, name) for name in ("default", "other")]
    net, both = oracles[0].net, oracles[0].weights()
    for name, weight in oracles[1].weights().items():
        both[name] = both[name] + weight - dict(net.named_parameters())[name]
    assert relative(model(x), functional_call(net, both, (x,))) < 1e-12


@every
def test_mixed_batches_are_right_or_refused(kind: Kind, case: Case):
    x = case.input()
    model = adapted(case)
    model.add_adapter("etf", case.config("loram(basis=etf)"))
    model.add_adapter("plain", case.config(True))
    for seed, name in enumerate(("default", "etf", "plain")):
        scramble(model, name, seed)
    model.eval()
    names = ["etf", "__base__", "plain", "default"]
    if kind.mixed:
        with pytest.raises((TypeError, ValueError), match="mixed"):
            model(x, adapter_names=names)
        return
    got = model(x, adapter_names=names)
    for row, name in enumerate(names):
        if name == "__base__":
            expected = case.net()(x[row : row + 1])
        else:
            model.set_adapter(name)
            expected = model(x[row : row + 1])
        assert relative(got[row : row + 1], expected) < 1e-6


@every
def test_export_is_right_in_stock_peft_or_refused(kind: Kind, case: Case, tmp_path: Path):
    x = case.input()
    model = adapted(case, lora_alpha=5, use_rslora=True)
    scramble(model)
    model.save_pretrained(tmp_path / "loram")
    expected = model(x)
    if kind.export:
        with pytest.raises(LoramError, match="--merge"):
            export_plain(tmp_path / "loram", tmp_path / "plain")
    else:
        done = export_plain(tmp_path / "loram", tmp_path / "plain")
        assert (done.rank, done.layers) == (4, case.sites)
        if case.breaks_stock:
            return
        plain = PeftModel.from_pretrained(case.net(), tmp_path / "plain")
        assert relative(plain(x), expected) < 1e-5
        cut = export_plain(tmp_path / "loram", tmp_path / "cut", rank=1)
        assert 0 < cut.error < 1
        assert cut.worst[1] >= cut.error
        PeftModel.from_pretrained(case.net(), tmp_path / "cut")(x)
    net = Saveable(case)
    export_merged(tmp_path / "loram", tmp_path / "merged", net)
    net.layer.load_state_dict(torch.load(tmp_path / "merged" / "layer.pt"))
    assert relative(net(x), expected) < 1e-5


def Saveable(case: Case) -> Any:
    """The net, with what a Transformers model has."""
    net = case.net()
    net.save_pretrained = lambda folder: torch.save(net.layer.state_dict(), folder / "layer.pt")
    return net


@every
def test_probe_reads_the_magnitudes(kind: Kind, case: Case):
    model = adapted(case, dtype=torch.float64, lora_alpha=3)
    scramble(model)
    read = MagnitudeProbe(model).read()
    oracle = Absolute(case, model)
    expected = []
    for part in oracle.parts:
        A, B = part["A"], part["B"]
        update = part["s"] * (B @ A - part["B0"] @ part["A0"])
        rows = zip(*(t.reshape(-1, *t.shape[-2:]) for t in (A, B, update)), strict=True)
        expected += [[t.square().mean().item() for t in row] for row in rows]
    got = sorted(map(list, read.values()))
    for mine, theirs in zip(got, sorted(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)


@every
def test_apply_does_the_same_as_the_config(kind: Kind, case: Case):
    x = case.input()
    model = adapted(case, True)
    loram.apply_(model)
    assert_same_state(state(model), state(adapted(case)))
    scramble(model)
    reference = adapted(case)
    scramble(reference)
    assert torch.equal(model(x), reference(x))


@every
def test_autocast(kind: Kind, case: Case):
    x = case.input()
    model = adapted(case)
    scramble(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
    assert relative(out, model(x)) < 2e-2


# ---- the residual form ---------------------------------------------------------------------------


@every
def test_residual_form_is_the_base_at_the_start_or_refused(kind: Kind, case: Case):
    net, x = case.net(), case.input()
    if isinstance(kind.residual, str):
        with (
            nothing_changes(net),
            pytest.raises(LoramError, match=r"use init_lora_weights='loram'"),
        ):
            get_peft_model(net, case.config("loram_residual"))
        return
    expected = net(x)
    model = get_peft_model(net, case.config("loram_residual"))
    assert relative(model(x), expected) < 1e-6
    assert relative(model.unload()(x), expected) < 1e-6


@every
def test_dora_with_the_deviation_form_is_refused(kind: Kind, case: Case):
    net = case.net()
    with nothing_changes(net), pytest.raises(LoramError, match="use_dora"):
        get_peft_model(net, case.config(use_dora=True))


# ---- combining, and the docs ---------------------------------------------------------------------


@every
def test_weighted_sum_is_right_or_refused(kind: Kind, case: Case):
    model = adapted(case, dtype=torch.float64)
    model.add_adapter("other", case.config("loram(basis=etf)"))
    for seed, name in enumerate(("default", "other")):
        scramble(model, name, seed)
    sum_up: dict[str, Any] = {"adapter_name": "sum", "combination_type": "svd", "svd_rank": 4}
    if kind.combine:
        with nothing_changes(model), pytest.raises(LoramError, match="weighted sums"):
            model.add_weighted_adapter(["default", "other"], [1.0, 0.5], **sum_up)
        return
    model.add_weighted_adapter(["default", "other"], [1.0, 0.5], **sum_up)
    for layer in lora_layers(model, "sum"):
        first, second = (layer.get_delta_weight(name) for name in ("default", "other"))
        wanted = (first + 0.5 * second).flatten(1)
        U, S, V = torch.linalg.svd(wanted, full_matrices=False)
        best = U[:, :4] * S[:4] @ V[:4]
        assert relative(layer.get_delta_weight("sum").flatten(1), best) < 1e-10


def test_docs_are_the_table():
    """If this fails: python docs/make_layers.py."""
    script = Path(__file__).parents[2] / "docs" / "make_layers.py"
    made = runpy.run_path(str(script))
    assert made["PAGE"].read_text() == made["page"]()
