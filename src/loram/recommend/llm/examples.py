"""Cases as what a run trains on and is judged by: prompts of both kinds, and answers, as tokens."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from loram.recommend.llm.case import Case
from loram.recommend.llm.prompt import Prompter, Tokens
from loram.recommend.llm.scoring import word_ids
from loram.recommend.llm.settings import LLMSettings

__all__ = ["Example", "Writer", "window_of"]


class Example(NamedTuple):
    """A case as tokens.

    Attributes:
        case: itself.
        text: the prompt without slots.
        hybrid: the prompt with slots; that without, where there is none with.
        answer: tokens to learn, the end token included.
        candidates: tokens of each candidate's title, the end token included.
    """

    case: Case
    text: Tokens
    hybrid: Tokens
    answer: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]

    def prompt(self, hybrid: bool) -> Tokens:
        """One of the two."""
        return self.hybrid if hybrid else self.text


class Writer:
    """Writes cases by the settings of a run."""

    def __init__(
        self,
        settings: LLMSettings,
        tokenizer: Any,
        titles: Sequence[str | None],
        window: int | None = None,
    ) -> None:
        """Resolve the words, where there are words.

        Args:
            settings: of the run.
            tokenizer: of the model.
            titles: by item code.
            window: tokens that the model reads at most, prompt and answer; None for no limit.

        Raises:
            PromptError: a word is not one token, or words have the same.
        """
        of, length = settings.prompt, settings.prompt.max_length
        self._tokenizer = tokenizer
        end = tokenizer(settings.answer_end, add_special_tokens=False).input_ids
        self._end = (*end, tokenizer.eos_token_id)
        if window is not None:
            length = min(length, window - self._longest_answer(settings, titles))
        self.text = Prompter(tokenizer, of.text_template, titles, length)
        hybrid = of.hybrid_template
        self.hybrid = Prompter(tokenizer, hybrid, titles, length) if hybrid.kinds() else self.text
        self.words = () if settings.data.candidates else word_ids(tokenizer, settings.words)

    def _longest_answer(self, settings: LLMSettings, titles: Sequence[str | None]) -> int:
        if not settings.data.candidates:
            return 1 + len(self._end)
        texts = [title for title in dict.fromkeys(titles) if title]
        tokens = self._tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        written = settings.max_new_tokens if settings.written else 0
        return max(written, *map(len, tokens), 0) + len(self._end)

    def __call__(self, case: Case) -> Example:
        """The case as tokens; errors as `Prompter`."""
        text = self.text(case)
        hybrid = text if self.hybrid is self.text else self.hybrid(case)
        candidates = tuple(self.title(item) for item in case.candidates)
        if self.words:
            answer = (self.words[0 if case.label else 1], *self._end)
        else:
            answer = self.title(case.target)
        return Example(case, text, hybrid, answer, candidates)

    def title(self, item: int) -> tuple[int, ...]:
        """Tokens of an item's title as an answer, the end token included."""
        title = self.text.title(item)
        return (*self._tokenizer(title, add_special_tokens=False).input_ids, *self._end)


def window_of(llm: Any) -> int | None:
    """Tokens that a model of Transformers was made to read, by its configuration."""
    found = getattr(llm.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None
