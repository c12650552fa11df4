"""Tasks of the kind `choices`: a causal language model picks the option it finds likeliest."""

from collections.abc import Sequence
from typing import Any

from loram.tasks.commonsense import choice_scores
from loram.tasks.task import Choice
from loram.train.answering import Answering
from loram.train.encode import Encoded
from loram.train.job import Judgement, Moment, Stage
from loram.train.likelihood import option_likelihoods, right_answers

__all__ = ["Choosing"]


class Choosing(Answering):
    """Trained on the right option's text; judged by its loss and by the likeliest option."""

    def encode(self, examples: Sequence[Any]) -> list[Encoded]:
        """Tokens of questions and their right options."""
        return super().encode(right_answers(examples))

    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Loss per token of the right option in nats, `accuracy` and `accuracy_norm` of all."""
        examples: Sequence[Choice] = self.judged[moment][0]
        settings = self.settings
        found = option_likelihoods(
            model,
            self.tokenizer,
            examples,
            settings.prompt,
            settings.max_length,
            batch_size=4 * settings.batch_size,  # options are many and are not trained on
            progress=stage(f"options {moment}", len(examples)),
        )
        metrics = {"loss": self.held_out(model, moment, stage), **choice_scores(found, examples)}
        rows: list[dict[str, Any]] = []
        for (question, options, right), scores in zip(examples, found, strict=True):
            picked = max(range(len(options)), key=scores.__getitem__)
            rows.append(
                {
                    "question": question,
                    "reference": options[right],
                    "written": options[picked],
                    "correct": picked == right,
                }
            )
        return Judgement(metrics, rows)
