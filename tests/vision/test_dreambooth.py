"""DreamBooth end to end, on tiny pipelines with random weights."""

import json
import math
from pathlib import Path

import diffusion_tiny as tiny
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from typer.testing import CliRunner

import loram.vision.dreambooth as module
from loram.cli import app
from loram.methods import METHODS
from loram.peft import LoramError
from loram.peft.pipelines import WEIGHTS, save_lora_weights
from loram.train.errors import DivergedError, RunError
from loram.vision.dreambooth import dreambooth
from loram.vision.errors import VisionError
from loram.vision.families import FAMILIES, family_of
from loram.vision.images import read_images
from loram.vision.losses import noising_of
from loram.vision.settings import DreamBoothSettings

SIZE = 16


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for name, make in tiny.PIPELINES.items():
        make().save_pretrained(folder / name)
    return folder


def paint(folder: Path, count: int, shift: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (20, 24), (200 - shift, 30 * i + shift, 90)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def dogs(tmp_path_factory) -> Path:
    return paint(tmp_path_factory.mktemp("images") / "dogs", 3)


@pytest.fixture
def settings(pipelines, dogs):
    def make(name: str = "flux", **options) -> DreamBoothSettings:
        usual = {"rank": 2, "lr": 1e-2, "steps": 30, "size": SIZE, "text_length": 16}
        usual |= {"save_every": 4, "dtype": "float32", "batch_size": 4}
        usual |= {"images": str(dogs), "prompt": "a photo of sks dog"}
        return DreamBoothSettings(model=str(pipelines / name), **(usual | options))

    return make


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_the_loss_falls_and_the_pipeline_loads_what_was_trained(
    tmp_path, pipelines, settings, name, monkeypatch
):
    kept = {}
    real = module.save_lora_weights

    def spy(out, models, **rest):
        kept.update(models)
        return real(out, models, **rest)

    monkeypatch.setattr(module, "save_lora_weights", spy)
    results = dreambooth(settings(name), tmp_path / "run")
    assert results["loss"]["after"] < 0.99 * results["loss"]["before"]
    assert len(losses(tmp_path / "run")) == 30
    assert results["saved_rank"] == 4
    pipeline = type(tiny.PIPELINES[name]()).from_pretrained(pipelines / name)
    base, (trained,) = tiny.denoiser(pipeline).eval(), kept.values()
    with torch.no_grad():
        batch = tiny.inputs(base)
        before, wanted = base(**batch).sample, trained(**batch).sample
        pipeline.load_lora_weights(tmp_path / "run")
        torch.testing.assert_close(base(**batch).sample, wanted, rtol=1e-4, atol=1e-4)
    assert (before - wanted).abs().max() > 1e-3
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert files == {"settings.json", "results.json", "losses.jsonl", WEIGHTS}
    assert dreambooth(settings(name), tmp_path / "run") == results


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "method"),
    [("flux", "loram"), ("sd", "lora"), ("sd", "loram-residual"), ("flux", "pissa")],
)
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path, settings, name, method, monkeypatch):
    mine = settings(name, method=method, steps=8)
    dreambooth(mine, tmp_path / "whole")
    real = module._loss

    def dying(model, family, noising, data, settings, step):
        if step == 6:
            raise Killed
        return real(model, family, noising, data, settings, step)

    monkeypatch.setattr(module, "_loss", dying)
    with pytest.raises(Killed):
        dreambooth(mine, tmp_path / "cut")
    steps = []

    def watched(model, family, noising, data, settings, step):
        steps.extend([step] if step < mine.steps else [])  # the rest only judges
        return real(model, family, noising, data, settings, step)

    monkeypatch.setattr(module, "_loss", watched)
    dreambooth(mine, tmp_path / "cut")
    assert steps == [4, 5, 6, 7]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = ((tmp_path / run / WEIGHTS).read_bytes() for run in ("whole", "cut"))
    assert whole == cut


def test_a_damaged_checkpoint_is_named(tmp_path, settings, monkeypatch):
    def dying(*args):
        if args[-1] == 6:
            raise Killed
        return real(*args)

    real = module._loss
    monkeypatch.setattr(module, "_loss", dying)
    with pytest.raises(Killed):
        dreambooth(settings(), tmp_path / "cut")
    file = tmp_path / "cut" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"can't go on from .*checkpoint\.pt"):
        dreambooth(settings(), tmp_path / "cut")


def test_images_are_drawn_into_a_grid(tmp_path, settings):
    asked = {"validation_prompt": "sks dog", "validate_every": 2, "validation_steps": 2}
    mine = settings(steps=4, validation_images=2, **asked)
    results = dreambooth(mine, tmp_path / "run")
    names = sorted(file.name for file in (tmp_path / "run" / "images").iterdir())
    assert names == [f"step-{step:06d}-{i}.png" for step in (0, 2, 4) for i in (0, 1)]
    with Image.open(tmp_path / "run" / results["grid"]) as grid:
        assert grid.size == (48 + 2 * SIZE, 3 * SIZE)
    # Looking on does not change what is trained.
    dreambooth(settings(steps=4), tmp_path / "blind")
    assert losses(tmp_path / "run") == losses(tmp_path / "blind")


def test_the_prior_is_kept_by_its_weight(tmp_path, settings):
    cats = paint(tmp_path / "class", 2, shift=80)
    asked = {"class_images": str(cats), "class_prompt": "a photo of a dog", "steps": 1}
    runs = []
    for weight in (0.0, 1.0, 2.0):
        out = tmp_path / str(weight)
        results = dreambooth(settings(prior_weight=weight, **asked), out)
        assert results["images"] == {"subject": 3, "class": 2}
        runs += losses(out)
    assert runs[2] - runs[1] == pytest.approx(runs[1] - runs[0], rel=1e-4)
    assert runs[1] > runs[0]


@pytest.mark.parametrize("name", ["gaussian", "lora+", "milora", "olora", "loram-rslora"])
def test_other_methods_train_and_reload(tmp_path, pipelines, settings, name):
    results = dreambooth(settings("sd", method=name, steps=3), tmp_path / "run")
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    pipeline = tiny.sd_pipeline()
    pipeline.load_lora_weights(tmp_path / "run" / results["saved"])
    plain = METHODS[name].base == "kept" and METHODS[name].by == "PEFT"
    assert results["saved_rank"] == (2 if plain else 4)


@pytest.mark.parametrize("name", ["flux", "sdxl"])
def test_a_bfloat16_base_has_float32_factors(tmp_path, settings, name):
    options = {"dtype": "bfloat16", "grad_checkpointing": True, "steps": 3}
    runs = [tmp_path / method for method in ("loram", "loram-residual")]
    for out in runs:
        dreambooth(settings(name, method=out.name, **options), out)
        tensors = load_file(out / WEIGHTS).values()
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=2e-3)


def test_a_run_that_diverges_says_so_again(tmp_path, settings):
    for _ in range(2):
        with pytest.raises(DivergedError, match="training diverged"):
            dreambooth(settings(lr=1e30, max_grad_norm=0), tmp_path / "run")


# ---- losses --------------------------------------------------------------------------------------


def test_flow_matching_runs_on_a_straight_line():
    """x_σ − σ·target is the latents themselves, whatever σ and noise."""
    pipeline = tiny.flux_pipeline()
    latents = torch.randn(8, 4, 4, 4)
    noised = noising_of(pipeline, family_of(pipeline))(latents, torch.Generator().manual_seed(0))
    sigma = (noised.t / 1000)[:, None, None, None]
    torch.testing.assert_close(noised.latents - sigma * noised.target, latents)


def test_noise_is_what_the_scheduler_added():
    pipeline = tiny.sd_pipeline()
    latents = torch.randn(8, 4, 4, 4)
    noised = noising_of(pipeline, FAMILIES["StableDiffusionPipeline"])(
        latents, torch.Generator().manual_seed(0)
    )
    kept = pipeline.scheduler.alphas_cumprod[noised.t][:, None, None, None]
    expected = kept.sqrt() * latents + (1 - kept).sqrt() * noised.target
    torch.testing.assert_close(noised.latents, expected)


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_images_are_all_named_and_left_out_only_when_asked(tmp_path):
    folder = paint(tmp_path / "dogs", 2)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VisionError, match="3 of 5 images") as caught:
        read_images(folder, SIZE)
    for name in ("empty.png: empty, 0 bytes", "text.jpg: not an image", "cut.png"):
        assert name in str(caught.value)
    assert read_images(folder, SIZE, skip_bad=True).shape == (2, 3, SIZE, SIZE)


@pytest.mark.parametrize("way", ["missing", "bare"])
def test_a_folder_without_images_is_refused(tmp_path, way):
    folder = tmp_path / "dogs"
    if way == "bare":
        folder.mkdir()
        (folder / "notes.txt").write_text("woof")
    with pytest.raises(VisionError, match="no folder" if way == "missing" else "no image"):
        read_images(folder, SIZE)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prompt": "a photo of a dog"}, "lacks the token"),
        ({"prompt": "a photo of sksx dog"}, "lacks the token"),
        ({"class_prompt": "a dog"}, "go together"),
        ({"class_images": "x", "class_prompt": "a sks dog"}, "has the subject's token"),
        ({"method": "full"}, "no adapter"),
        ({"method": "eva"}, "starts from data"),
        ({"method": "lorm"}, "unknown method"),
        ({"recipe": "mine"}, "paper"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, match):
    usual = {"images": "dogs", "prompt": "a sks dog"}
    with pytest.raises((ValidationError, ValueError), match=match):
        DreamBoothSettings(**(usual | options))


@pytest.mark.parametrize(("name", "size", "near"), [("flux", 18, "16 or 20"), ("sd", 2, "4")])
def test_a_size_that_the_model_cant_take_is_refused(tmp_path, settings, name, size, near):
    with pytest.raises(VisionError, match=rf"{size} pixels.*such as {near}"):
        dreambooth(settings(name, size=size), tmp_path / "run")


def test_a_size_past_the_positions_is_refused(tmp_path, settings, pipelines):
    largest = tiny.sd3_transformer().config.pos_embed_max_size
    with pytest.raises(VisionError, match="positions end"):
        dreambooth(settings("sd3", size=2 * (largest + 1)), tmp_path / "run")


def test_a_model_that_is_no_pipeline_is_refused(tmp_path, settings, pipelines):
    with pytest.raises(VisionError, match=r"can't load the pipeline .*model_index\.json"):
        dreambooth(settings(".."), tmp_path / "run")


def test_layers_that_are_not_there_are_refused(tmp_path, settings):
    with pytest.raises(LoramError, match="matches no layer of FluxTransformer2DModel"):
        dreambooth(settings(target_modules="q_proj"), tmp_path / "run")


def test_parts_that_are_mixed_up_are_refused(tmp_path):
    for part, model in (("text_encoder", tiny.sd_unet()), ("unet", tiny.clip())):
        with pytest.raises(LoramError, match=f"{part} is .*mixed up"):
            save_lora_weights(tmp_path, {part: model})


# ---- command -------------------------------------------------------------------------------------


def test_the_paper_is_a_recipe_that_options_change():
    usual = {"images": "dogs", "prompt": "a sks dog", "recipe": "paper"}
    paper = DreamBoothSettings(**usual)
    found = (paper.model, paper.rank, paper.lr, paper.batch_size, paper.steps)
    assert found == ("black-forest-labs/FLUX.1-dev", 8, 1e-4, 1, 1000)
    assert DreamBoothSettings(**usual, steps=10).steps == 10


def test_the_command_trains_and_takes_what_is_not_given_from_the_recipe(
    tmp_path, pipelines, dogs, monkeypatch
):
    out = tmp_path / "run"
    command = ["dreambooth", "--model", str(pipelines / "sd"), "--images", str(dogs)]
    command += ["--prompt", "a sks dog", "--recipe", "paper", "--steps", "2", "--size", "16"]
    done = CliRunner().invoke(app, [*command, "--dtype", "float32", "--out", str(out)])
    assert done.exit_code == 0, done.output
    kept = json.loads((out / "settings.json").read_text())
    assert (kept["steps"], kept["rank"], kept["recipe"]) == (2, 8, "paper")
    assert WEIGHTS in done.output.replace("\n", "")
