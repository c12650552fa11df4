"""Files that diffusers' pipelines read: plain LoRA, whoever writes them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusion_tiny as tiny
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_diffusers_adapters import added, output, train

import loram
from loram.peft.pipelines import WEIGHTS, export_lora_weights, save_lora_weights

FORMS = ("loram", "loram_residual")

# A process that has never heard of loram: loads each file, writes the outputs of the parts.
ALONE = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {here!r})
import torch
import diffusion_tiny as tiny

done = []
for name, folder in json.loads(sys.argv[1]):
    pipeline = tiny.PIPELINES[name]()
    try:
        pipeline.load_lora_weights(folder)
    except ValueError as error:
        done.append({{"error": str(error)}})
        continue
    model = tiny.denoiser(pipeline).eval()
    with torch.no_grad():
        text = pipeline.text_encoder.eval()(torch.arange(6)[None])[0]
        done.append({{"model": model(**tiny.inputs(model)).sample, "text": text}})
assert not any(name.split(".")[0] == "loram" for name in sys.modules)
torch.save(done, sys.argv[2])
"""


def alone(tmp_path: Path, *files: tuple[str, Path]) -> tuple[list[dict[str, Any]], str]:
    """Outputs of fresh pipelines (name, folder of the file), and what was said on the way."""
    script, out = tmp_path / "alone.py", tmp_path / "out.pt"
    script.write_text(ALONE.format(here=str(Path(__file__).parent)))
    jobs = json.dumps([(name, str(folder)) for name, folder in files])
    done = subprocess.run([sys.executable, script, jobs, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(out), done.stderr


def trained(name: str, init: str, targets=None, **options) -> torch.nn.Module:
    model = added(tiny.MODELS[name], init, targets, **options)
    train(model)
    return model


PARTS = {"flux": "transformer", "sd3": "transformer", "sd": "unet", "sdxl": "unet"}


CASES = [
    ("flux", "loram", None),
    ("flux", "loram_residual", None),
    ("sd", "loram", ["to_q", "to_v", "conv1", "conv2"]),
    ("sd3", "loram", None),
    ("sdxl", "loram", None),
]


def test_a_process_without_loram_computes_the_same(tmp_path):
    models, folders = [], []
    for i, (name, init, targets) in enumerate(CASES):
        model = trained(name, init, targets, use_rslora=name == "flux")
        done = save_lora_weights(tmp_path / str(i), {PARTS[name]: model})
        assert done.ranks == {PARTS[name]: 4}
        assert done.error == {PARTS[name]: 0}
        keys = list(load_file(done.file))
        assert all(key.startswith(PARTS[name] + ".") for key in keys)
        assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys)
        models.append(model)
        folders.append((name, tmp_path / str(i)))
    results, said = alone(tmp_path, *folders)
    assert "unexpected keys" not in said
    for (name, _, _), model, result in zip(CASES, models, results, strict=True):
        torch.testing.assert_close(result["model"], output(model), rtol=1e-4, atol=1e-4)
        moved = (output(model) - output(tiny.MODELS[name]().eval())).abs().max()
        assert moved > 1e-3, name


def text_adapter() -> torch.nn.Module:
    model = tiny.clip()
    targets = ["q_proj", "k_proj", "v_proj", "out_proj"]
    model.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights="loram")
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(4))
    return model


def test_what_the_pipelines_save_themselves_is_plain(tmp_path):
    """With the header of today's scripts, and without, as in those of some years ago."""
    text = text_adapter()
    with torch.no_grad():
        expected = text(torch.arange(6)[None])[0]
        assert not torch.allclose(expected, tiny.clip()(torch.arange(6)[None])[0], atol=1e-3)
    unets, files = [], []
    for form in FORMS:
        unet = trained("sd", form)
        layers = {
            part: convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
            for part, model in (("unet_lora_layers", unet), ("text_encoder_lora_layers", text))
        }
        for header in (_collate_lora_metadata({"unet": unet, "text_encoder": text}), {}):
            folder = tmp_path / f"{form}-{bool(header)}"
            StableDiffusionPipeline.save_lora_weights(folder, **layers, **header)
            assert not any("lora_basis" in key for key in load_file(folder / WEIGHTS))
            files.append(("sd", folder))
            unets.append(unet)
    results, _ = alone(tmp_path, *files)
    for unet, result in zip(unets, results, strict=True):
        torch.testing.assert_close(result["model"], output(unet), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(result["text"], expected, rtol=1e-4, atol=1e-4)


def test_a_model_saves_its_own_adapter_plain(tmp_path):
    model = trained("flux", "loram")
    model.save_lora_adapter(tmp_path)
    other = tiny.flux_transformer().eval()
    other.load_lora_adapter(tmp_path, prefix=None, weight_name=WEIGHTS)
    torch.testing.assert_close(output(other), output(model))
    with pytest.raises(loram.LoramError, match="safetensors"):
        model.save_lora_adapter(tmp_path, safe_serialization=False)


def test_plain_adapters_are_saved_as_ever(tmp_path):
    model = trained("flux", "gaussian")
    state = get_peft_model_state_dict(model)
    FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=state)
    saved = load_file(tmp_path / WEIGHTS)
    assert saved.keys() == {f"transformer.{key}" for key in state}
    assert all(torch.equal(saved[f"transformer.{key}"], each) for key, each in state.items())


def test_copies_without_a_header_are_refused(tmp_path):
    state = {k: v.clone() for k, v in get_peft_model_state_dict(trained("flux", "loram")).items()}
    with pytest.raises(loram.LoramError, match="transformer_lora_adapter_metadata"):
        FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=state)
    assert not (tmp_path / WEIGHTS).exists()


# ---- going on from a checkpoint, as the scripts do -----------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_script_goes_on_from_what_it_saved(tmp_path, form):
    model = trained("flux", form)
    FluxPipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=get_peft_model_state_dict(model)
    )
    state = FluxPipeline.lora_state_dict(tmp_path)
    mine = {key.removeprefix("transformer."): tensor for key, tensor in state.items()}
    again = added(tiny.flux_transformer, form)
    result = set_peft_model_state_dict(again, mine, adapter_name="default")
    assert not result.unexpected_keys
    torch.testing.assert_close(output(again), output(model))
    ours, theirs = (get_peft_model_state_dict(each) for each in (again, model))
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor)
    assert train(again) == pytest.approx(train(model), rel=1e-5)


@pytest.mark.parametrize("init", ["loram(gain=0.9)", "loram(basis=orthogonal, seed=3)"])
def test_another_starting_point_does_not_take_it_back(tmp_path, init):
    save_lora_weights(tmp_path, {"transformer": trained("flux", "loram")})
    state = FluxPipeline.lora_state_dict(tmp_path)
    mine = {key.removeprefix("transformer."): tensor for key, tensor in state.items()}
    with pytest.raises(loram.LoramError, match="lora_basis"):
        set_peft_model_state_dict(added(tiny.flux_transformer, init), mine)


# ---- raw files -----------------------------------------------------------------------------------


def raw_file(folder: Path, model: torch.nn.Module, *, header: bool) -> Path:
    """What diffusers writes where loram has not taught it."""
    folder.mkdir()
    state = {f"transformer.{k}": v for k, v in get_peft_model_state_dict(model).items()}
    config = model.peft_config["default"].to_dict()
    noted = {f"transformer.{k}": list(v) if isinstance(v, set) else v for k, v in config.items()}
    metadata = {"format": "pt"}
    if header:
        metadata["lora_adapter_metadata"] = json.dumps(noted)
    save_file(state, folder / WEIGHTS, metadata=metadata)
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", [True, False])
def test_raw_files_become_plain_ones(tmp_path, header, form):
    model = trained("flux", form)
    raw = raw_file(tmp_path / "raw", model, header=header)
    if not header:
        with pytest.raises(loram.LoramError, match="its alpha and form are not told"):
            export_lora_weights(raw, tmp_path / "plain")
    configs = None if header else {"transformer": model.peft_config["default"]}
    exact = export_lora_weights(raw, tmp_path / "plain", configs=configs)
    small = export_lora_weights(raw, tmp_path / "small", configs=configs, rank=2)
    assert (exact.ranks, small.ranks) == ({"transformer": 4}, {"transformer": 2})
    assert exact.error["transformer"] == 0 < small.error["transformer"] < 1
    other = tiny.flux_pipeline()
    other.load_lora_weights(tmp_path / "plain")
    torch.testing.assert_close(output(other.transformer.eval()), output(model))


def test_raw_files_never_load_silently_wrong(tmp_path):
    """With loram: right by the header, refused without one. Without loram: refused, or warned."""
    model = trained("flux", "loram")
    noted = raw_file(tmp_path / "noted", model, header=True)
    bare = raw_file(tmp_path / "bare", model, header=False)
    right = tiny.flux_pipeline()
    right.load_lora_weights(noted)
    assert torch.equal(output(right.transformer.eval()), output(model))
    with pytest.raises(loram.LoramError, match="the checkpoint is a LoRAM adapter"):
        tiny.flux_pipeline().load_lora_weights(bare)
    (refused, _), said = alone(tmp_path, ("flux", noted), ("flux", bare))
    assert "Unknown initialization" in refused["error"]
    assert "unexpected keys" in said
    assert "lora_basis" in said


@pytest.mark.parametrize("way", ["missing", "damaged", "itself"])
def test_bad_files_are_named(tmp_path, way):
    out, raw = tmp_path / "plain", tmp_path / WEIGHTS
    if way == "damaged":
        raw.write_bytes(b"\0" * 20)
    if way == "itself":
        raw_file(tmp_path / "raw", trained("flux", "loram"), header=True)
        raw = out = tmp_path / "raw"
    match = "holds the raw file" if way == "itself" else f"can't read .*{WEIGHTS}"
    with pytest.raises(loram.LoramError, match=match):
        export_lora_weights(raw, out)


def test_parts_without_an_adapter_are_refused(tmp_path):
    with pytest.raises(loram.LoramError, match="FluxTransformer2DModel has no adapter 'default'"):
        save_lora_weights(tmp_path, {"transformer": tiny.flux_transformer()})
    with pytest.raises(loram.LoramError, match="nothing to write"):
        save_lora_weights(tmp_path, {})
    with pytest.raises(ValueError, match="rank"):
        save_lora_weights(tmp_path, {}, rank=0)


def test_a_rewriting_method_of_peft_is_saved_by_its_start(tmp_path):
    model = added(tiny.flux_transformer, "pissa")
    start = {key: each.clone() for key, each in get_peft_model_state_dict(model).items()}
    train(model)
    save_lora_weights(tmp_path, {"transformer": model}, starts={"transformer": start})
    other = tiny.flux_pipeline()
    other.load_lora_weights(tmp_path)
    torch.testing.assert_close(
        output(other.transformer.eval()), output(model), rtol=1e-4, atol=1e-4
    )


def test_the_header_tells_nothing_of_loram(tmp_path):
    """Plain LoRA's config, by which a pipeline reads rank and alpha."""
    model = trained("flux", "loram")
    state = get_peft_model_state_dict(model)
    header = _collate_lora_metadata({"transformer": model})
    FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=state, **header)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as opened:
        noted = json.loads(opened.metadata()["lora_adapter_metadata"])
    wanted = {"r": 4, "lora_alpha": 4, "init_lora_weights": True}
    assert {key: noted[f"transformer.{key}"] for key in wanted} == wanted
