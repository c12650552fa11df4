"""What a model writes after a prompt: one text greedily, or several drawn at a temperature."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from loram.train.encode import Prompt, prompt_text

__all__ = ["write_texts"]


class Asked(Protocol):
    """Anything with a question: an example, a problem."""

    @property
    def question(self) -> str:
        """Of the user."""
        ...


@torch.no_grad()
def write_texts(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Asked],
    prompt: Prompt,
    *,
    samples: int = 1,
    temperature: float = 0.8,
    seed: int = 0,
    max_new_tokens: int = 512,
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda n: None,
) -> list[list[str]]:
    """What the model writes to each question; the global random state is left as it was.

    Args:
        model: causal language model; left in the mode it was in.
        tokenizer: its tokenizer.
        questions: to answer.
        prompt: as in training.
        samples: texts for each question; one is the greedy one.
        temperature: of the draw of several.
        seed: of the draw; it belongs to a question and its samples, not to their batch.
        max_new_tokens: a text is cut there.
        batch_size: questions of similar length at a time when greedy.
        progress: told the number of questions done.
    """
    was_training = model.training
    model.eval()
    texts = [prompt_text(tokenizer, each.question, prompt) for each in questions]
    draws = samples > 1
    step = 1 if draws else batch_size
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    written: dict[int, list[str]] = {}
    sampling: dict[str, Any] = {"do_sample": False}
    if draws:
        # All of the distribution: a model's own cuts of its tail would be another measurement.
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    for start in range(0, len(order), step):
        part = order[start : start + step]
        batch = tokenizer(
            [texts[i] for i in part],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        ).to(model.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed + part[0])
            ids = model.generate(
                **batch,
                **sampling,
                max_new_tokens=max_new_tokens,
                num_return_sequences=samples,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,  # what `encode` ends an answer with
            )
        new = ids[:, batch["input_ids"].shape[1] :]
        said: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
        for place, i in enumerate(part):
            written[i] = said[place * samples : (place + 1) * samples]
        progress(len(part))
    model.train(was_training)
    return [written[i] for i in range(len(texts))]
