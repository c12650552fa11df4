"""Runs on images: a model that sees, its language model adapted and its projector trained whole."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from pydantic import ValidationError
from tiny import Killed, assert_same_run, kill_at, rows
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from conftest import make_tokenizer
from loram.tasks import DataError
from loram.tasks.pictures import load_pictures
from loram.tasks.task import Request
from loram.train import TrainSettings, run
from loram.train.kinds import prepare
from loram.train.matching import layer_starts
from loram.train.model import ModelError
from loram.train.run import silent

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} It is {% endif %}"
)
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def make_llava(path: Path, template: str | None = TEMPLATE) -> Path:
    """Folder of a LLaVA of width 32 with two layers and a vision tower of 16 × 16 pixels."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    torch.manual_seed(3)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
            projection_dim=16,
            initializer_range=0.5,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default",
    )
    LlavaForConditionalGeneration(config).save_pretrained(path)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def llava(tmp_path_factory) -> Path:
    return make_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Images of one colour, whose name is the answer."""
    path = tmp_path_factory.mktemp("pictures")
    for split, count, first in (("train", 24, 0), ("test", 6, 24)):
        lines: list[str] = []
        for i in range(first, first + count):
            name, colour = list(COLOURS.items())[i % 2]
            shade = tuple(max(c - 3 * i, 0) for c in colour)
            Image.new("RGB", (16 + i % 3, 16), shade).save(path / f"{i}.png")
            line = {"image": f"{i}.png", "question": "Which colour?", "answer": name}
            lines.append(json.dumps(line) + "\n")
        (path / f"{split}.jsonl").write_text("".join(lines))
    return path


def settings_of(model: Path, data: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        **{"task": "images", "model": str(model), "data": str(data), "rank": 4, "lr": 2e-2},
        **{"steps": 6, "save_every": 2, "warmup_steps": 1, "batch_size": 4, "dtype": "float32"},
        **{"dropout": 0.1, "validation_size": 4, "calibrate_on": 4, "answers": 2},
        **{"max_new_tokens": 4, "max_length": 64},
    }
    return TrainSettings(**(values | changes))


QUICK: dict[str, Any] = {"steps": 3, "save_every": 0, "magnitudes_every": 0, "answers": 0}


def adapted(out: Path) -> set[str]:
    lines = rows(out / "magnitudes.jsonl")
    return set(lines[0]["layers"])


def test_it_learns_what_is_in_the_image(llava, pictures, tmp_path):
    """One that knows the two names and does not look is right on half of them at most."""
    options = {"steps": 60, "dropout": 0.0, "save_every": 0, "answers": 6}
    settings = settings_of(llava, pictures, lr=1e-2, rank=8, **options)
    found = run(settings, tmp_path / "out")
    before, after = found["metrics"]["before"], found["metrics"]["test"]
    assert after["loss"] < 1 < before["loss"]
    assert (before["exact_match"], after["exact_match"]) == (0, 1)
    answers = rows(tmp_path / "out" / "answers.jsonl")
    assert [each["after"] for each in answers] == [each["reference"] for each in answers]


# One of each way to start and to save; all rows of the table are tested on language models alone.
WAYS = ("full", "lora", "pissa", "milora", "eva", "corda-ipm", "lora-ga", "lora-one")
FORMS = ("loram", "loram-residual", "loram-track-lora-ga")


@pytest.mark.parametrize("name", WAYS + FORMS)
def test_a_method_trains_the_language_model_and_reloads(llava, pictures, tmp_path, name):
    settings = settings_of(llava, pictures, method=name, **QUICK)
    out = tmp_path / "out"
    found = run(settings, out)
    if name == "full":
        tuned = AutoModelForImageTextToText.from_pretrained(out / "model").state_dict()
        old = AutoModelForImageTextToText.from_pretrained(llava).state_dict()
        moved = {key for key in old if not torch.equal(old[key], tuned[key])}
        assert not any("vision_tower" in key for key in moved)
        for part in ("language_model", "multi_modal_projector", "lm_head"):
            assert any(part in key for key in moved)
        return
    assert adapted(out)
    assert all("language_model" in layer for layer in adapted(out))
    base = AutoModelForImageTextToText.from_pretrained(llava)
    model = PeftModel.from_pretrained(base, out / "adapter")
    job = prepare(settings, torch.float32)
    again = job.judge(model, "after", silent).metrics["loss"]
    assert again == pytest.approx(found["metrics"]["test"]["loss"], rel=1e-3)


def test_the_projector_moves_and_the_tower_does_not(llava, pictures, tmp_path):
    run(settings_of(llava, pictures, **QUICK), tmp_path)
    base = AutoModelForImageTextToText.from_pretrained(llava)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    pretrained = AutoModelForImageTextToText.from_pretrained(llava)
    old = pretrained.model.multi_modal_projector.linear_1.weight
    wrapped = model.get_base_model().model.multi_modal_projector
    new = wrapped.modules_to_save["default"].linear_1.weight
    assert not torch.equal(old, new)
    tower = model.get_base_model().model.vision_tower.state_dict()
    assert tower.keys() == pretrained.model.vision_tower.state_dict().keys()
    for key, value in pretrained.model.vision_tower.state_dict().items():
        assert torch.equal(tower[key], value)


@pytest.mark.parametrize("kills", [[kill_at("training", 3), kill_at("training", 5)]])
@pytest.mark.parametrize("method", ["loram", "pissa"])
def test_a_killed_run_goes_on_and_ends_the_same(llava, pictures, tmp_path, method, kills):
    settings = settings_of(llava, pictures, method=method)
    for kill in kills:
        with pytest.raises(Killed):
            run(settings, tmp_path / "killed", stage=kill)
    run(settings, tmp_path / "killed")
    run(settings, tmp_path / "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_bfloat16_base_has_a_float32_projector(llava, pictures):
    model = prepare(settings_of(llava, pictures, dtype="bfloat16"), torch.bfloat16).model
    dtypes = {
        name: {p.dtype for p in part.parameters()} for name, part in model.model.named_children()
    }
    assert dtypes.pop("multi_modal_projector") == {torch.float32}
    assert set().union(*dtypes.values()) == {torch.bfloat16}


def test_a_bfloat16_base_trains(llava, pictures, tmp_path):
    found = run(settings_of(llava, pictures, dtype="bfloat16", **QUICK), tmp_path)
    assert found["metrics"]["test"]["loss"] < found["metrics"]["before"]["loss"]


def test_rates_can_be_matched(llava, pictures):
    starts = layer_starts(settings_of(llava, pictures, method="loram")) or []
    assert len(starts) == 14


# ---- bad input -----------------------------------------------------------------------------------


def one(folder: Path, **changes: Any) -> Path:
    """A folder whose second row is changed; None drops a field."""
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    good = {"image": "a.png", "question": "Which?", "answer": "red"}
    bad = {k: v for k, v in (good | changes).items() if v is not None}
    text = "".join(json.dumps(row) + "\n" for row in (good, bad, good))
    (folder / "train.jsonl").write_text(text)
    Image.new("RGB", (16, 16)).save(folder / "b.png")
    (folder / "test.jsonl").write_text(json.dumps(good | {"image": "b.png"}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "gone.png"}, r"train.jsonl, line 2: there is no image .*gone.png"),
        ({"image": ["a.png", 3]}, "line 2: expected the path of an image, got 3"),
        ({"image": []}, "line 2: expected an image, or several, in 'image', got none"),
        (
            {"image": None},
            r"line 2: expected an object with image, .* got \['answer', 'question'\]",
        ),
        ({"answer": None}, "line 2: expected an object with image"),
        ({"answer": " "}, "line 2: expected text to ask and to learn"),
        ({"image": "broken.png"}, "line 2: can't read the image .*broken.png"),
        ({"image": "empty.png"}, "line 2: can't read the image .*empty.png"),
    ],
)
def test_a_bad_row_is_named(llava, tmp_path, changes, said):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "empty.png").write_bytes(b"")
    data = one(tmp_path, **changes)
    with pytest.raises(DataError, match=said):
        prepare(settings_of(llava, data, validation_size=0, answers=0), torch.float32)


def test_every_bad_image_is_named(llava, tmp_path):
    data = one(tmp_path, image="broken.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)^3 of 3 rows .*line 1: .*line 2: .*line 3: "):
        prepare(settings_of(llava, data, validation_size=0, answers=0), torch.float32)


def test_bad_images_are_left_out_if_asked(llava, tmp_path, caplog):
    data = one(tmp_path, image="broken.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    settings = settings_of(llava, data, validation_size=0, answers=0, skip_bad_images=True)
    assert len(prepare(settings, torch.float32).train) == 2
    assert "left out" in caplog.text
    assert "broken.png" in caplog.text
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="3 of 3 rows have no image that can be read"):
        prepare(settings, torch.float32)


def test_a_batch_of_answers_is_as_one_by_one(llava, pictures):
    """Prompts of different lengths, padded on the left."""

    def written(batch_size: int) -> list[str]:
        settings = settings_of(llava, pictures, answers=6, batch_size=batch_size)
        job = prepare(settings, torch.float32)
        test = job._judged["after"]
        longer = [row._replace(prompt="Now, " * (i % 3) + row.prompt) for i, row in enumerate(test)]
        job._judged["after"] = longer
        return [each["written"] for each in job.judge(job.model, "after", silent).rows]

    assert written(4) == written(1)


def test_a_template_without_a_place_for_the_image_is_refused(pictures, tmp_path):
    blind = make_llava(tmp_path / "blind", "{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises((DataError, ValueError), match=r"image"):
        prepare(settings_of(blind, pictures), torch.float32)


def test_a_prompt_longer_than_the_room_is_refused(llava, pictures):
    with pytest.raises(DataError, match="max_length is 8, so nothing of the answer is left"):
        prepare(settings_of(llava, pictures, max_length=8), torch.float32)


def test_a_model_that_does_not_see_is_refused(tiny_model, pictures):
    with pytest.raises(ModelError, match="as a model of images and text"):
        prepare(settings_of(tiny_model, pictures), torch.float32)


def test_too_few_images_are_said(llava, pictures):
    with pytest.raises(DataError, match="expected 1 training, 40 validation and 6 test examples"):
        prepare(settings_of(llava, pictures, validation_size=40), torch.float32)


def test_no_data_is_said(llava):
    with pytest.raises(DataError, match="has no data of its own"):
        prepare(settings_of(llava, llava).model_copy(update={"data": None}), torch.float32)


def test_an_image_that_is_judged_is_never_trained_on(llava, pictures, tmp_path):
    """One file, in which an image stands twice with different questions."""
    lines = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    for line in lines:
        line["image"] = str(pictures / line["image"])
    twice = [*lines, *({**line, "question": "And what colour?"} for line in lines)]
    file = tmp_path / "all.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in twice))
    job = prepare(
        settings_of(llava, file, validation_size=8, held_out_size=8, answers=0), torch.float32
    )
    seen = {image for row in job.train for image in row.source.images}
    for judged in (job._judged["after"], job._judged["validation"]):
        assert len(judged) == 8
        assert seen.isdisjoint(image for row in judged for image in row.source.images)


@pytest.mark.parametrize("prompt", ["chat", "plain"])
def test_a_question_about_two_images(llava, pictures, tmp_path, prompt):
    """Which of two images is red: the answer depends on their order."""
    lines = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    paths = [str(pictures / line["image"]) for line in lines]
    pairs = [
        {"images": [paths[i], paths[i + 1]], "question": "Which?", "answer": lines[i]["answer"]}
        for i in range(0, len(paths) - 1, 2)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    sizes = {"validation_size": 2, "held_out_size": 2, "answers": 2}
    settings = settings_of(llava, file, prompt=prompt, steps=2, save_every=0, **sizes)
    job = prepare(settings, torch.float32)
    batch = job.collate(job.train[:2])
    per_image = sum(token == job._mark for token in job.train[0].input_ids) // 2
    assert int((batch["input_ids"] == job._mark).sum()) == 4 * per_image
    assert batch["pixel_values"].shape[0] == 4
    found = run(settings, tmp_path / "out")["metrics"]["test"]
    assert found.keys() == {"loss", "exact_match", "chrf"}


def test_two_images_share_a_row_and_so_a_split(pictures, tmp_path):
    paths = [str(pictures / f"{i}.png") for i in range(6)]
    rows = [{"images": pair, "caption": "two"} for pair in pairwise(paths)]
    file = tmp_path / "chain.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = load_pictures(Request(str(file), None, None, 0, 1, 0))
    judged = set(splits.test[0].images)
    assert all(judged.isdisjoint(row.images) for row in splits.train)


def test_labels_have_no_projector_and_images_have():
    assert TrainSettings(task="images", model="x", data="y", head_lr=1e-3).head_lr == 1e-3
    with pytest.raises(ValidationError, match="only for tasks of labels or images"):
        TrainSettings(task="answers", head_lr=1e-3)
