"""Export to plain LoRA: equal to rank 2r in a process without loram, best at any other rank."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from small import FORMS, logits, lora_config, lora_layers, relative, scramble
from torch import Tensor

from conftest import VOCABULARY, make_llama
from loram import LoramError
from loram.peft.export import Exported, export_merged, export_plain, read_adapter

WEIGHTS = "adapter_model.safetensors"
RANKS = {"q_proj": 2, "up_proj": 6}
ALPHAS = {"k_proj": 9, "up_proj": 3}


def saved(base, path: Path, ids: Tensor, init: str = "loram", **settings) -> Tensor:
    """Saves an adapter whose factors have moved; returns its logits."""
    model = get_peft_model(base, lora_config(init, **settings))
    scramble(model, "default")
    model.save_pretrained(path)
    return logits(model, ids)


def edit_weights(path: Path, change) -> None:
    save_file(change(load_file(path / WEIGHTS)), path / WEIGHTS)


def edit_config(path: Path, **changes) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# ---- rank 2r, in plain PEFT ----------------------------------------------------------------------

CASES: dict[str, dict] = {
    " ".join(map(str, case)): {
        "init": f"{case[0]}(basis={'etf, seed=7' if case[1] != case[4] else 'dst'})",
        "use_rslora": case[1],
        "lora_alpha": 6,
        "rank_pattern": RANKS if case[2] else {},
        "alpha_pattern": ALPHAS if case[3] else {},
        "lora_dropout": 0.3 if case[4] else 0.0,
    }
    for case in product(FORMS, *[[False, True]] * 4)
}
CASES |= {
    f"{form} basis {basis}": {"init": f"{form}(basis={basis}, seed=3, gain=spectral)"}
    for form in FORMS
    for basis in ("gaussian", "orthogonal")
}
CASES |= {
    f"{form} head": {"init": form, "modules_to_save": ["lm_head"], "bias": "lora_only"}
    for form in FORMS
}
CASES["regex"] = {
    "init": "loram(gain=spectral)",
    "target_modules": r".*\.1\..*(q_proj|up_proj)",
    "r": 1,
    "rank_pattern": {r"layers\.1\..*up_proj": 3},
}
CASES["dora"] = {"init": "loram_residual", "use_dora": True, "lora_alpha": 6}

SCRIPT = """
import copy, sys
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
torch.set_num_threads(1)
root, names = sys.argv[1], sys.argv[2:]
base = LlamaForCausalLM.from_pretrained(f"{root}/base")
ids, out = load_file(f"{root}/ids")["ids"], {}
for number, name in enumerate(names):
    model = PeftModel.from_pretrained(copy.deepcopy(base), f"{root}/plain/{number}").eval()
    with torch.no_grad():
        out[name] = model(input_ids=ids).logits
for form in ("loram", "loram_residual"):
    try:
        PeftModel.from_pretrained(copy.deepcopy(base), f"{root}/{form}")
    except ValueError as error:
        print(form, error)
assert "loram" not in sys.modules
save_file(out, f"{root}/logits")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """(our logits, logits in a process without loram, exports, what that process printed)."""
    root = tmp_path_factory.mktemp("export")
    ids = torch.randint(0, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))
    make_llama().save_pretrained(root / "base")
    save_file({"ids": ids}, root / "ids")
    ours, exports = {}, {}
    for number, (name, settings) in enumerate(CASES.items()):
        ours[name] = saved(make_llama(), root / "raw" / str(number), ids, **settings)
        exports[name] = export_plain(root / "raw" / str(number), root / "plain" / str(number))
    for form in FORMS:
        saved(make_llama(), root / form, ids, form)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, root, *CASES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return ours, load_file(root / "logits"), exports, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_plain_peft_computes_the_same_logits(elsewhere, llama, ids, name):
    ours, theirs, exports, _ = elsewhere
    assert relative(theirs[name], ours[name]) <= 1e-5
    assert relative(ours[name], logits(llama(), ids)) > 0.01  # the adapter does something
    path = exports[name].path
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert config["use_rslora"] is False
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert config["r"] == config["lora_alpha"] == exports[name].rank
    ranks = [CASES[name].get("r", 4), *CASES[name].get("rank_pattern", {}).values()]
    assert config["r"] == 2 * max(ranks)
    tensors = load_file(path / WEIGHTS)
    assert not any("lora_basis" in key for key in tensors)
    factors = {key: t for key, t in tensors.items() if ".lora_" in key and key.endswith("weight")}
    for key, tensor in factors.items():
        if "magnitude" not in key:
            assert tensor.shape[0 if ".lora_A." in key else 1] == config["r"], key
    assert exports[name].layers == len([key for key in factors if ".lora_A." in key])
    assert exports[name].bytes == (path / WEIGHTS).stat().st_size
    assert exports[name].error == 0
    assert "loram" not in (path / "adapter_config.json").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_without_loram_a_raw_adapter_fails_loudly(elsewhere, form):
    assert f"{form} Unknown initialization init_lora_weights='{form}'" in elsewhere[3]


def test_modules_to_save_pass_through(llama, ids, tmp_path):
    saved(llama(), tmp_path / "raw", ids, modules_to_save=["lm_head"])
    edit_weights(tmp_path / "raw", lambda t: {k: -v if "lm_head" in k else v for k, v in t.items()})
    export_plain(tmp_path / "raw", tmp_path / "plain")
    raw, plain = (load_file(tmp_path / name / WEIGHTS) for name in ("raw", "plain"))
    (key,) = [key for key in raw if "lm_head" in key]
    assert torch.equal(plain[key], raw[key])


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_dtype_of_the_factors(llama, ids, tmp_path, dtype, stored):
    saved(llama(), tmp_path / "raw", ids)
    edit_weights(
        tmp_path / "raw",
        lambda t: {k: v if "basis" in k else v.to(stored) for k, v in t.items()},
    )
    done = export_plain(tmp_path / "raw", tmp_path / "plain", dtype=dtype)
    exported = products(done)
    assert {t.dtype for t in load_file(done.path / WEIGHTS).values()} == {dtype or stored}
    tolerance = 1e-2 if (dtype or stored) == torch.bfloat16 else 1e-6
    for name, expected in updates(llama(), tmp_path / "raw").items():
        assert relative(exported[name], expected) < tolerance


# ---- other ranks ---------------------------------------------------------------------------------


def updates(base, adapter: Path) -> dict[str, Tensor]:
    """s(BA − B⁰A⁰) of a stored deviation-form adapter, by layer, in float64."""
    model = PeftModel.from_pretrained(base, adapter).double()
    return {name: layer.get_delta_weight("default") for name, layer in named(model)}


def named(model) -> list[tuple[str, Any]]:
    found = lora_layers(model)
    return [(name, module) for name, module in model.named_modules() if module in found]


def products(done: Exported) -> dict[str, Tensor]:
    """BA of an export, by layer, in float64."""
    tensors = {key: tensor.double() for key, tensor in load_file(done.path / WEIGHTS).items()}
    ends = ".lora_A.weight", ".lora_B.weight"
    names = [key.removesuffix(ends[0]) for key in tensors if key.endswith(ends[0])]
    return {name: tensors[name + ends[1]] @ tensors[name + ends[0]] for name in names}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rank", [1, 3, 4, 7, 8, 20])
def test_any_rank_is_the_best_approximation_and_its_error_is_reported(
    llama, ids, tmp_path, rank, form
):
    model = get_peft_model(llama(), lora_config(form, use_rslora=True))
    start = {name: layer.get_delta_weight("default").detach() for name, layer in named(model)}
    scramble(model, "default")
    model.save_pretrained(tmp_path / "raw")
    done = export_plain(tmp_path / "raw", tmp_path / "plain", rank=rank)
    assert (done.rank, done.layers) == (rank, len(start))
    tensors = load_file(done.path / WEIGHTS)
    assert all(rank in tensor.shape for tensor in tensors.values())
    exported, total, lost, worst = products(done), 0.0, 0.0, {}
    for name, layer in named(model):
        delta = layer.get_delta_weight("default").detach().double()
        if form == "loram_residual":
            delta = delta - start[name].double()
        u, sigma, vh = torch.linalg.svd(delta, full_matrices=False)
        best = u[:, :rank] * sigma[:rank] @ vh[:rank]
        assert float((exported[name] - best).norm()) <= 2e-6 * float(delta.norm()), name
        total += float(delta.square().sum())
        lost += float((delta - best).square().sum())
        worst[name] = float((delta - best).norm() / delta.norm())
    assert done.error == pytest.approx((lost / total) ** 0.5, rel=1e-5, abs=1e-6)
    if rank < 8:
        name = max(worst, key=lambda key: worst[key])
        assert done.worst == (name, pytest.approx(worst[name], rel=1e-5))
    reloaded = PeftModel.from_pretrained(llama(), done.path)
    if rank >= 8:
        assert relative(logits(reloaded, ids), logits(model, ids)) <= 1e-5


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_small_errors_are_reported_as_they_are(llama, tmp_path, rank):
    """Singular values over nine decades: the tail is below the rounding of the sum of squares."""
    model = get_peft_model(llama(), lora_config("loram", target_modules=["q_proj"]))
    generator = torch.Generator().manual_seed(0)
    for layer in lora_layers(model):
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        q = torch.linalg.qr(torch.randn(32, 4, generator=generator)).Q
        A.data.zero_()
        B.data.copy_(q * torch.tensor([1.0, 1e-3, 1e-6, 1e-9]))
    model.save_pretrained(tmp_path / "raw")
    done = export_plain(tmp_path / "raw", tmp_path / "plain", rank=rank)
    total = lost = 0.0
    for layer in updates(llama(), tmp_path / "raw").values():
        squares = torch.linalg.svdvals(layer).square()
        total, lost = total + float(squares.sum()), lost + float(squares[rank:].sum())
    assert done.error == pytest.approx((lost / total) ** 0.5, rel=1e-3, abs=1e-15)


def test_an_untrained_adapter_is_exported_as_zero(llama, ids, tmp_path):
    get_peft_model(llama(), lora_config()).save_pretrained(tmp_path / "raw")
    for rank in (None, 2):
        done = export_plain(tmp_path / "raw", tmp_path / f"plain{rank}", rank=rank)
        assert done.error == 0
        reloaded = PeftModel.from_pretrained(llama(), done.path)
        assert torch.equal(logits(reloaded, ids), logits(llama(), ids))


# ---- merged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"init": form} for form in FORMS] + [CASES["dora"]])
def test_merged_export_is_merge_and_unload(llama, ids, tmp_path, settings):
    expected = saved(llama(), tmp_path / "raw", ids, **settings)
    merged = PeftModel.from_pretrained(llama(), tmp_path / "raw").merge_and_unload()
    path = export_merged(tmp_path / "raw", tmp_path / "full", llama())
    assert path == tmp_path / "full"
    loaded = type(merged).from_pretrained(path).eval()
    for name, tensor in merged.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert relative(logits(loaded, ids), expected) <= 1e-5


# ---- refusals ------------------------------------------------------------------------------------


def spoil(path: Path, how: str) -> None:
    def drop(part: str, layer: str = "layers.1.mlp.up_proj"):
        return lambda t: {k: v for k, v in t.items() if not (part in k and layer in k)}

    def code(*values):
        def change(tensors):
            key = next(key for key in tensors if "lora_basis" in key)
            return tensors | {key: torch.tensor(values, dtype=torch.int64)}

        return change

    match how:
        case "nothing there":
            for file in path.iterdir():
                file.unlink()
        case "no config":
            (path / "adapter_config.json").unlink()
        case "no weights":
            (path / WEIGHTS).unlink()
        case "damaged config":
            (path / "adapter_config.json").write_text('{"r": ')
        case "config of another kind":
            (path / "adapter_config.json").write_text("[]")
        case "another method":
            (path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
        case "truncated":
            (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-100])
        case "plain":
            edit_config(path, init_lora_weights=True)
        case "bad string":
            edit_config(path, init_lora_weights="loram(gain=oops)")
        case "no lora_basis":
            edit_weights(path, drop("lora_basis", ""))
        case "no lora_basis on one layer":
            edit_weights(path, drop("lora_basis"))
        case "no lora_A on one layer":
            edit_weights(path, drop("lora_A"))
        case "no lora_B on one layer":
            edit_weights(path, drop("lora_B"))
        case "no layer":
            edit_weights(path, drop("lora_", ""))
        case "β is NaN":
            edit_weights(path, code(0x7FF8000000000000, 0))
        case "β is negative":
            edit_weights(path, code(-(2**62), 0))
        case "unknown basis":
            edit_weights(path, code(0, 250))
        case "lora_basis was cast":
            edit_weights(path, lambda t: {k: v.float() for k, v in t.items()})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing there", "no readable adapter"),
        ("no config", "no readable adapter.*adapter_config.json"),
        ("no weights", "no readable adapter.*adapter_model.safetensors"),
        ("damaged config", "no readable adapter"),
        ("config of another kind", "no readable adapter"),
        ("another method", "is not a LoRAM one.*IA3"),
        ("truncated", "no readable adapter"),
        ("plain", "is not a LoRAM one.*init True.*needs no export"),
        ("bad string", "no readable adapter.*gain=oops"),
        ("no lora_basis", "lora_basis.*damaged, or a tool has stripped"),
        ("no lora_basis on one layer", "layers.1.mlp.up_proj: expected.*lora_basis"),
        ("no lora_A on one layer", "layers.1.mlp.up_proj: expected.*lora_A"),
        ("no lora_B on one layer", "layers.1.mlp.up_proj: expected.*lora_B"),
        ("no layer", "no LoRA layer"),
        ("β is NaN", "β = nan cannot be"),
        ("β is negative", "β = .* cannot be"),
        ("unknown basis", "basis code 250"),
        ("lora_basis was cast", "int64"),
    ],
)
def test_an_adapter_that_cannot_be_exported_is_refused(llama, ids, tmp_path, how, message):
    saved(llama(), tmp_path / "raw", ids)
    spoil(tmp_path / "raw", how)
    with pytest.raises(LoramError, match=message):
        export_plain(tmp_path / "raw", tmp_path / "plain")
    assert [each.name for each in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("name", ["no/such-adapter", "nonsense", "/no/such"])
def test_a_name_that_is_no_adapter_is_refused(tmp_path, name):
    with pytest.raises(LoramError, match=f"no readable adapter at '{name}'"):
        read_adapter(name)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("taken", ["file", "folder", "below a file"])
def test_a_place_that_is_taken_is_left_alone(llama, ids, tmp_path, taken, merged):
    saved(llama(), tmp_path / "raw", ids)
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "thesis"
    file.write_text("precious")
    out = {"file": file, "folder": file.parent, "below a file": file / "out"}[taken]
    export, rest = (export_merged, [llama()]) if merged else (export_plain, [])
    with pytest.raises(LoramError, match="name a new folder"):
        export(tmp_path / "raw", out, *rest)
    assert list(file.parent.iterdir()) == [file]
    assert file.read_text() == "precious"


def test_new_folders_are_made_and_empty_ones_used(llama, ids, tmp_path):
    saved(llama(), tmp_path / "raw", ids)
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "er"):
        export_plain(tmp_path / "raw", out)
        assert {each.name for each in out.iterdir()} >= {"adapter_config.json", WEIGHTS}
        assert out.stat().st_mode == (tmp_path / "raw").stat().st_mode
    assert {each.name for each in tmp_path.iterdir()} == {"raw", "empty", "deep"}


@pytest.mark.parametrize(
    ("error", "seen"), [(OSError, LoramError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_an_export_that_fails_leaves_no_folder(llama, ids, tmp_path, monkeypatch, error, seen):
    saved(llama(), tmp_path / "raw", ids)

    def fail(*args, **kwargs):
        raise error("disk full")

    monkeypatch.setattr("loram.peft.export.save_file", fail)
    with pytest.raises(seen):
        export_plain(tmp_path / "raw", tmp_path / "plain")
    base = llama()
    monkeypatch.setattr(type(base), "save_pretrained", fail)
    with pytest.raises(seen):
        export_merged(tmp_path / "raw", tmp_path / "full", base)
    assert [each.name for each in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(tmp_path, rank):
    with pytest.raises(ValueError, match=f"expected rank ≥ 1, got {rank}"):
        export_plain(tmp_path / "raw", tmp_path / "plain", rank=rank)
