"""What the tests of LLM recommenders share: a tiny Llama with a tokenizer that knows Yes and No."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from loram.recommend.llm.case import Case
from loram.recommend.llm.settings import LLMSettings, read_yaml

TITLES = [f"{a} {b}" for a in ("Red", "Blue", "Old", "New") for b in ("Fox", "Door", "Sea", "Song")]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Yes and No as tokens of their own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"Preference: {title}. Will the user like it? Yes No" for title in TITLES]
    bpe.train_from_iterator([*texts, *["Yes", "No"] * 20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>")


def make_llama(vocabulary: int, *, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def make_gpt2(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=1024,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


def cases(number: int, *, candidates: int = 0) -> list[Case]:
    """Users who like the items of their own parity."""
    made: list[Case] = []
    for i in range(number):
        history = tuple((3 * i + 5 * j) % 16 for j in range(i % 4 + 1))
        target = (7 * i + 2) % 16
        others = tuple(k for k in range(16) if k != target)[: candidates - 1] if candidates else ()
        made.append(
            Case(
                user=i % 5,
                history=history,
                liked=tuple(k % 2 == i % 2 for k in history),
                target=target,
                label=int(target % 2 == i % 2),
                candidates=(*others, target) if candidates else (),
                row=i,
            )
        )
    return made


def tables(number: int, width: int = 6) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    sizes = {"user": 5, "item": 16, "sequence": number, "context": number}
    return {kind: torch.randn(rows, width, generator=draw) for kind, rows in sizes.items()}


def parts(model: Any) -> Sequence[str]:
    """Names of what has a gradient."""
    return [name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]


def save_model(folder: Path) -> Path:
    """A model and its tokenizer, as settings name them."""
    tokenizer = make_tokenizer()
    make_llama(len(tokenizer), layers=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_interactions(file: Path, *, users: int = 12, each: int = 12) -> Path:
    """CSV of users who like items of their own parity, with titles and times."""
    lines = ["user,item,rating,time,title"]
    for user in range(users):
        for k in range(each):
            item = (3 * user + 5 * (k + user)) % 16  # of both labels at any k
            rating = 5 if item % 2 == user % 2 else 2
            lines.append(f"u{user},i{item},{rating},{100 * k + user},{TITLES[item]}")
    file.write_text("\n".join(lines) + "\n")
    return file


class FakeEncoder:
    """Vectors that are fixed functions of the codes."""

    widths = MappingProxyType({"user": 6, "item": 6, "sequence": 6, "context": 6})

    def item_vectors(self, item: Any) -> torch.Tensor:
        codes = torch.as_tensor(np.asarray(item)).float()[..., None]
        return torch.cos(codes * torch.arange(1, 7)) * (codes >= 0)

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def encode(self, samples: Any) -> dict[str, torch.Tensor]:
        user = self.item_vectors(samples.user + 1)
        sequence = self.item_vectors(samples.history).sum(1)
        return {
            "user": user,
            "item": self.item_vectors(samples.item),
            "sequence": sequence,
            "context": sequence + user,
        }


def tiny(name: str, inputs: tuple[Path, Path], *changes: str) -> LLMSettings:
    """A configuration of the package, on a model and data of the test, for two steps a stage."""
    model, data = inputs
    base = read_yaml(name)
    small = [
        *(f"model={model}", f"data.source={data}", "dtype=float32", "data.history=4"),
        *("data.shots=6", "data.valid=6", "data.test=9", "batch_size=3", "warmup_steps=1"),
        *(
            "data.sizes=[12, 12, 12]",
            "max_new_tokens=3",
            "save_every=1",
            "published={}",
            "resamples=20",
        ),
    ]
    if base.data.candidates:
        small += ["data.candidates=4", "data.shares=[6, 2, 4]", "data.valid=2"]
    stages = [
        {"trains": list(s.trains), "prompts": s.prompts, "max_steps": 2, "patience": s.patience}
        for s in base.stages
    ]
    small.append(f"stages={json.dumps(stages)}")
    return read_yaml(name, [*small, *changes])
