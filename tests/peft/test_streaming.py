"""`loram init` writes what get_peft_model and save_pretrained write, without the model."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from small import LLAMA_TARGETS, lora_config, train
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForPreTraining,
    T5Config,
    T5ForConditionalGeneration,
)

from loram import streams
from loram.checkpoints import CheckpointError
from loram.peft import LoramError
from loram.peft.streaming import config_of, stream_init

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """So that every weight of a tiny model comes in several."""
    monkeypatch.setattr(streams, "_SIZE", 4096)


def make_bert() -> BertForPreTraining:
    torch.manual_seed(2)
    return BertForPreTraining(
        BertConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
        )
    )


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def assert_as_peft(
    checkpoint: Path, config: LoraConfig, tmp_path: Path, *, auto=AutoModelForCausalLM, **kwargs
) -> None:
    """Every file of the adapter, byte for byte; the config sorts PEFT's set of names."""
    base = auto.from_pretrained(str(checkpoint), dtype=kwargs.get("dtype", "auto"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PEFT's, on Conv1D and on embeddings
        get_peft_model(base, config).save_pretrained(str(tmp_path / "theirs"))
        done = stream_init(str(checkpoint), tmp_path / "ours", config, **kwargs)
    ours, theirs = files(done.path), files(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    name = "adapter_config.json"
    one, other = (json.loads(each.pop(name)) for each in (ours, theirs))
    for each in (one, other):
        if isinstance(each["target_modules"], list):
            each["target_modules"].sort()
    assert one == other
    assert ours == theirs
    assert done.bytes == len(theirs["adapter_model.safetensors"])


def causal(init: str = "loram", **settings) -> LoraConfig:
    return lora_config(
        init, **({"target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings)
    )


@pytest.fixture
def checkpoint(llama, tmp_path) -> Path:
    folder = tmp_path / "checkpoint"
    llama().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_is_what_peft_writes(request, name, dtype, tmp_path):
    request.getfixturevalue(name)(dtype=DTYPES[dtype]).save_pretrained(tmp_path / "model")
    assert_as_peft(tmp_path / "model", causal(), tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_encoder_whose_names_have_a_prefix_in_the_file(dtype, tmp_path):
    make_bert().to(DTYPES[dtype]).save_pretrained(tmp_path / "model")
    config = causal(task_type="FEATURE_EXTRACTION")
    assert_as_peft(tmp_path / "model", config, tmp_path, auto=AutoModel)


@pytest.mark.parametrize(
    ("init", "settings"),
    [
        ("loram(gain=0.3)", {}),
        ("loram(gain=spectral)", {}),
        ("loram(statistic=var)", {}),
        ("loram(basis=orthogonal, seed=7)", {"use_rslora": True, "lora_alpha": 8}),
        ("loram(basis=etf)", {"rank_pattern": {"q_proj": 6}}),
        ("loram", {"target_modules": LLAMA_TARGETS}),
        ("loram", {"target_modules": r".*layers\.1\..*(q_proj|down_proj)"}),
        ("loram", {"target_modules": ["embed_tokens", "lm_head", "v_proj"]}),
        ("loram", {"target_modules": ["q_proj"], "bias": "all"}),
    ],
)
def test_gains_bases_targets_and_scalings(checkpoint, tmp_path, init, settings):
    assert_as_peft(checkpoint, causal(init, **settings), tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_dtype_that_the_base_is_loaded_in_counts(checkpoint, tmp_path, dtype):
    assert_as_peft(checkpoint, causal(), tmp_path, dtype=dtype)


def test_a_tied_head_reads_the_embedding(llama, tmp_path):
    llama(tied=True).save_pretrained(tmp_path / "model")
    assert "lm_head.weight" not in load_file(tmp_path / "model" / "model.safetensors")
    config = causal(target_modules=["lm_head"])
    assert_as_peft(tmp_path / "model", config, tmp_path)


def test_what_an_architecture_keeps_in_float32_stays_there(tmp_path):
    torch.manual_seed(2)
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    from transformers import AutoModelForSeq2SeqLM

    settings = causal(task_type="SEQ_2_SEQ_LM", target_modules=["wo", "wi", "q"])
    assert_as_peft(
        tmp_path / "model", settings, tmp_path, auto=AutoModelForSeq2SeqLM, dtype="float16"
    )


def test_shards_and_one_file_give_the_same(llama, checkpoint, tmp_path):
    llama().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert_as_peft(tmp_path / "sharded", causal(), tmp_path)
    one = stream_init(str(checkpoint), tmp_path / "one", causal())
    mine, theirs = (
        (folder / "adapter_model.safetensors").read_bytes()
        for folder in (one.path, tmp_path / "ours")
    )
    assert mine == theirs


def test_the_adapter_loads_and_trains(llama, checkpoint, ids, tmp_path):
    stream_init(str(checkpoint), tmp_path / "adapter", causal())
    model = PeftModel.from_pretrained(llama(), str(tmp_path / "adapter"), is_trainable=True)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, llama()(input_ids=ids).logits)
    before = model(input_ids=ids, labels=ids).loss.item()
    train(model, ids, steps=5)
    assert model(input_ids=ids, labels=ids).loss.item() < before


def test_no_weight_is_loaded_whole(checkpoint, tmp_path, monkeypatch):
    def whole(entry):
        raise AssertionError(f"{entry.name} was read whole")

    monkeypatch.setattr("loram.peft.streaming.read_whole", whole)
    threads = torch.get_num_threads()
    told: list[int] = []
    stream_init(str(checkpoint), tmp_path / "adapter", causal(), begin=lambda n: told.append)
    assert told == [1] * 14
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("init", "settings", "message"),
    [
        ("loram_residual", {}, "rewrites the base weights.*get_peft_model"),
        ("loram(gain=track:pissa)", {}, "track:pissa runs another initialisation"),
        (True, {}, "expected a LoRAM string"),
        ("loram", {"target_parameters": ["mlp.experts"]}, "target_parameters is not for"),
        ("loram", {"modules_to_save": ["lm_head"]}, "modules_to_save is not for"),
        ("loram", {"target_modules": ["nothing"]}, "matches no layer"),
        ("loram", {"r": 33}, r"model\.layers\.0\.self_attn\.q_proj: expected 1 ≤ r ≤ .* = 32"),
        ("loram", {"r": 1}, "the gain is zero at rank 1"),
        ("loram", {"use_dora": True}, "use_dora does not go with"),
    ],
)
def test_what_can_not_be_streamed_is_refused(checkpoint, tmp_path, init, settings, message):
    with pytest.raises(LoramError, match=message):
        stream_init(str(checkpoint), tmp_path / "adapter", causal(init, **settings))
    assert not (tmp_path / "adapter").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint"]


def rewrite(folder: Path, change) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(Q), "no tensor for " + Q),
        (lambda t: t.update({Q: t[Q][:8].clone()}), r"of shape \(32, 32\) by config.json"),
        (lambda t: t.update({Q: t[Q].to(torch.int8)}), "is I8: expected unquantised"),
        (lambda t: t[Q].view(-1)[1].fill_(float("nan")), "q_proj: the weight .* has NaN or Inf"),
        (lambda t: t[Q].zero_(), "q_proj: the weight is all zero"),
    ],
)
def test_weights_that_can_not_be_are_named(checkpoint, tmp_path, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(LoramError, match=message):
        stream_init(str(checkpoint), tmp_path / "adapter", causal())
    assert not (tmp_path / "adapter").exists()


def test_all_that_is_wrong_is_said_at_once(checkpoint, tmp_path):
    rewrite(checkpoint, lambda t: [t[name].zero_() for name in t if "v_proj" in name])
    with pytest.raises(LoramError) as caught:
        stream_init(str(checkpoint), tmp_path / "adapter", causal())
    assert str(caught.value).count("all zero") == 2


def test_a_damaged_checkpoint_is_refused(llama, checkpoint, tmp_path):
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        stream_init(str(checkpoint), tmp_path / "adapter", causal())
    file.rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickles are not read"):
        stream_init(str(checkpoint), tmp_path / "adapter", causal())
    llama().save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    next(iter((tmp_path / "sharded").glob("*-00002-*.safetensors"))).unlink()
    with pytest.raises(CheckpointError, match="which is not there"):
        stream_init(str(tmp_path / "sharded"), tmp_path / "adapter", causal())
    assert not (tmp_path / "adapter").exists()


def test_a_file_that_is_cut_while_it_is_read(checkpoint, tmp_path):
    file = checkpoint / "model.safetensors"

    def cut(layers):
        file.write_bytes(file.read_bytes()[:2000])
        return lambda done: None

    with pytest.raises(CheckpointError, match="ends within"):
        stream_init(str(checkpoint), tmp_path / "adapter", causal(), begin=cut)
    assert not (tmp_path / "adapter").exists()


def test_a_killed_init_leaves_no_adapter(checkpoint, tmp_path):
    class Killed(BaseException):
        pass

    def kill(done):
        raise Killed

    with pytest.raises(Killed):
        stream_init(str(checkpoint), tmp_path / "adapter", causal(), begin=lambda layers: kill)
    assert not (tmp_path / "adapter").exists()
    stream_init(str(checkpoint), tmp_path / "adapter", causal())  # and it can be done again
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_other_mistakes_say_what_was_expected(checkpoint, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("")
    with pytest.raises(LoramError, match="exists already"):
        stream_init(str(checkpoint), taken, causal())
    out = tmp_path / "adapter"
    with pytest.raises(LoramError, match=r"expected a folder with config\.json"):
        stream_init(str(checkpoint / "model.safetensors"), out, causal())
    with pytest.raises(LoramError, match="unknown dtype 'int3'"):
        stream_init(str(checkpoint), out, causal(), dtype="int3")
    with pytest.raises(LoramError, match="unknown task 'cooking'"):
        stream_init(str(checkpoint), out, causal(), task="cooking")
    with pytest.raises(LoramError, match="unknown option"):
        config_of(4, init="loram(gian=log)")
    config = json.loads((checkpoint / "config.json").read_text())
    quantised = {**config, "quantization_config": {"quant_method": "awq", "bits": 4}}
    (checkpoint / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(LoramError, match="is quantised"):
        stream_init(str(checkpoint), out, causal())
    (checkpoint / "config.json").unlink()
    with pytest.raises(LoramError, match=r"no config\.json"):
        stream_init(str(checkpoint), out, causal())
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        stream_init(str(checkpoint), out, causal())


def test_the_words_of_target_modules():
    assert config_of(4).target_modules == "all-linear"
    assert config_of(4, target_modules="q_proj, v_proj").target_modules == {"q_proj", "v_proj"}
    assert config_of(4, target_modules=r".*\.q_proj").target_modules == r".*\.q_proj"
    config = config_of(4, alpha=8.0, rslora=True, init="loram(gain=0.1)")
    assert (config.lora_alpha, config.use_rslora) == (8, True)
    assert config.init_lora_weights == "loram(gain=0.1)"
