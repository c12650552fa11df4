"""The model of a run, by hub id, path, or the name of an embedded one."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from loram.train import minilm, smollm2, smollm2_lite0

__all__ = [
    "EMBEDDED",
    "ModelError",
    "Pretrained",
    "Seeing",
    "heads",
    "load_classifier",
    "load_pretrained",
    "load_seeing",
    "pick_dtype",
    "resolve",
]

EMBEDDED = {"smollm2": smollm2, "minilm": minilm, "smollm2-lite0": smollm2_lite0}
"""Models that come with a PyPI wheel, by name."""


class ModelError(ValueError):
    """The model can't be loaded; the message says what was expected and what to do."""


class Pretrained(NamedTuple):
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any


def resolve(name: str) -> str:
    """What Transformers loads for a name: the embedded model's folder, else the name itself."""
    return str(EMBEDDED[name].folder()) if name in EMBEDDED else name


class Seeing(NamedTuple):
    """A model that reads images and text.

    Attributes:
        model: any `AutoModelForImageTextToText`.
        processor: of its images and text.
        projector: last part of the name of what leads from images to the language model.
        language: name of the language model.
        image_token_id: that stands for an image.
    """

    model: Any
    processor: Any
    projector: str
    language: str
    image_token_id: int


_PROJECTORS = ("multi_modal_projector", "connector", "mm_projector", "merger", "embed_vision")
"""What families call it: LLaVA, Mistral and Gemma; Idefics and SmolVLM; Qwen-VL; Gemma 3n."""


def pick_dtype(name: str) -> torch.dtype:
    """A dtype by name; `auto` is bfloat16 where the machine multiplies it natively, else float32.

    Raises:
        ModelError: an unknown name.
    """
    known = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "float64": torch.float64,
    }
    if name == "auto":
        if torch.cuda.is_available():
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        native: Any = torch.ops.mkldnn
        return torch.bfloat16 if native._is_mkldnn_bf16_supported() else torch.float32
    if name not in known:
        raise ModelError(f"unknown dtype {name!r}: expected auto, {', '.join(known)}")
    return known[name]


def load_pretrained(name: str, dtype: torch.dtype) -> Pretrained:
    """Load a causal language model and its tokenizer.

    Args:
        name: an embedded model (`smollm2`), a folder, or a hub id.
        dtype: of the base weights.

    Raises:
        ModelError: nothing there, or not a causal language model with a tokenizer.
        EmbeddedModelError: an embedded model whose wheel is not installed.
    """
    from transformers import AutoModelForCausalLM

    model, tokenizer = _loaded(AutoModelForCausalLM, name, "a causal language model", dtype=dtype)
    if tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no end token, so a model could not learn to stop: "
            "expected eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Pretrained(model, tokenizer)


def load_seeing(name: str, dtype: torch.dtype) -> Seeing:
    """Load a model that answers to images in words, and its processor.

    Args:
        name: an embedded model (`smollm2-lite0`), a folder, or a hub id.
        dtype: of the base weights; the projector, which is trained whole, is float32.

    Raises:
        ModelError: nothing there, or not such a model with a projector and an image token.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    wanted = "a model of images and text"
    model, processor = _loaded(
        AutoModelForImageTextToText, name, wanted, reader=AutoProcessor, dtype=dtype
    )
    modules = dict(model.named_modules())
    projector = next((n for n in modules if n.rsplit(".", 1)[-1] in _PROJECTORS), None)
    decoder = model.get_decoder()
    language = next((n for n, module in modules.items() if module is decoder), None)
    mark = getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
    if projector is None or not language or mark is None:
        raise ModelError(
            f"can't tell the parts of {name!r}: expected a projector ({', '.join(_PROJECTORS)}), a "
            f"language model and an image token, got {projector}, {language or None} and {mark}"
        )
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or tokenizer.eos_token is None:
        raise ModelError(
            f"the processor of {name!r} has no tokenizer with an end token, so a model could not "
            "learn to stop: expected eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if dtype != torch.float32:
        modules[projector].float().register_forward_pre_hook(_in_float32)
    return Seeing(model, processor, projector.rsplit(".", 1)[-1], language, int(mark))


def load_classifier(name: str, dtype: torch.dtype, classes: int, seed: int) -> Pretrained:
    """Load an encoder or a decoder with a new head on it, and its tokenizer.

    Args:
        name: an embedded model (`minilm`), a folder, or a hub id.
        dtype: of the base weights; what is new is float32, and is given float32.
        classes: outputs of the head; 1 for a score (regression).
        seed: of the head's random weights; the global generators are left as they were.

    Raises:
        ModelError: nothing there, not a model that can have such a head, or no padding token.
        EmbeddedModelError: an embedded model whose wheel is not installed.
    """
    from transformers import AutoModelForSequenceClassification

    kind = "regression" if classes == 1 else "single_label_classification"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with _no_reports():
            model, tokenizer = _loaded(
                AutoModelForSequenceClassification,
                name,
                "a classifier",
                dtype=dtype,
                num_labels=classes,
                problem_type=kind,
                # Also where the checkpoint has a head of its own, for other classes.
                ignore_mismatched_sizes=True,
            )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no padding token: expected pad_token or eos_token in "
            "its tokenizer_config.json"
        )
    # A decoder reads the last token that is not padding.
    model.config.pad_token_id = tokenizer.pad_token_id
    if dtype != torch.float32:
        for module in heads(model).values():
            module.float().register_forward_pre_hook(_in_float32)
    return Pretrained(model, tokenizer)


def heads(model: Any) -> dict[str, torch.nn.Module]:
    """What a classifier has beside its pretrained body: its new modules, by name."""
    body = model.base_model_prefix
    return {
        name: module
        for name, module in model.named_children()
        if name != body and any(True for _ in module.parameters())
    }


def _in_float32(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.float() if torch.is_tensor(x) else x for x in inputs)


@contextmanager
def _no_reports() -> Generator[None]:
    """Without Transformers' report that the head is new, which is what is asked for."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _loaded(
    auto: Any, name: str, wanted: str, *, reader: Any = None, **options: Any
) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    where = resolve(name)
    try:
        model = auto.from_pretrained(where, **options)
        tokenizer = (reader or AutoTokenizer).from_pretrained(where)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = "folder" if Path(where).is_dir() else "name"
        raise ModelError(
            f"can't load the {kind} {name!r} as {wanted}: {first}. Expected "
            f"{', '.join(EMBEDDED)}, a folder with a model and its tokenizer, or a hub id"
        ) from error
    return model, tokenizer
