"""Shared by all tests: no network, and tiny models that are made anew for every use."""

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.pop("LORAM_INIT", None)

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from loram.tasks import wordmath

VOCABULARY = 64
torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other


def pytest_configure(config: pytest.Config) -> None:
    # PEFT 0.21 asks transformers 5.23 for it in every get_peft_model.
    config.addinivalue_line(
        "filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
    )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def ids() -> Tensor:
    """Token ids (3, 7)."""
    return torch.randint(0, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def llama() -> Callable[..., PreTrainedModel]:
    """Makes a Llama of width 32 with two layers; always the same weights."""
    return make_llama


@pytest.fixture
def gpt2() -> Callable[..., PreTrainedModel]:
    """Makes a GPT-2 of width 32 with two layers, whose projections are Conv1D."""
    return make_gpt2


def make_llama(*, tied: bool = False, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval().to(dtype)


def make_gpt2(*, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=32,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config).eval().to(dtype)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama of width 32 with two layers, and a byte-level BPE made of wordmath."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = make_tokenizer()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def make_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    problems = wordmath.generate("train", 30)
    bpe.train_from_iterator([text for p in problems for text in (p.question, p.answer)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>")


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JSONL of forty short questions with worked answers."""
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [
        {"question": f"What is {i} plus {i + 2}?", "answer": f"{i} + {i + 2}\n#### {2 * i + 2}"}
        for i in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
