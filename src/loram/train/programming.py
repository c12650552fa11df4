"""Tasks of the kind `programs`: what a causal language model writes is run against tests."""

from collections.abc import Sequence
from typing import Any

import torch

from loram.tasks.programs.completion import assemble, provided
from loram.tasks.programs.passk import mean_pass_at_k
from loram.tasks.programs.sandbox import Limits, Sandbox, Verdict
from loram.tasks.task import Program, Task
from loram.train.answering import Answering
from loram.train.job import Judgement, Moment, Stage
from loram.train.sampling import write_texts
from loram.train.settings import TrainSettings

__all__ = ["Programming"]

_KS = (1, 5, 10, 100)


class Programming(Answering):
    """Trained on worked solutions; judged by their loss and by pass@k of what is written.

    Raises:
        NotAllowedError, SandboxError: programs may not, or can't, be run here.
    """

    def __init__(self, settings: TrainSettings, task: Task, dtype: torch.dtype) -> None:
        self._sandbox = Sandbox(  # first: nothing is loaded in vain
            run_generated_code=settings.run_generated_code,
            limits=Limits(seconds=settings.program_seconds),
        )
        super().__init__(settings, task, dtype)

    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Loss per token of the worked solution in nats, and pass@k for each k up to `samples`."""
        loss = self.held_out(model, moment, stage)
        if quick:
            return Judgement({"loss": loss}, [])
        settings = self.settings
        examples: Sequence[Program] = self.judged[moment][0]
        problems = examples[: settings.answers or len(examples)]
        written = write_texts(
            model,
            self.tokenizer,
            problems,
            settings.prompt,
            samples=settings.samples,
            temperature=settings.temperature,
            seed=settings.data_seed,
            max_new_tokens=settings.max_new_tokens,
            progress=stage(f"programs {moment}", len(problems)),
        )
        tick = stage(f"tests {moment}", len(problems))
        rows: list[dict[str, Any]] = []
        passed: list[list[bool]] = []
        for problem, texts in zip(problems, written, strict=True):
            verdicts = [self._judge(problem, text) for text in texts]
            passed.append([each.passed for each in verdicts])
            rows.append(
                {
                    "question": problem.question,
                    "reference": problem.answer,
                    "written": texts[0],
                    "correct": verdicts[0].passed,
                    "why": verdicts[0].why,
                    "passed": sum(each.passed for each in verdicts),
                }
            )
            tick(1)
        shares = {f"pass@{k}": mean_pass_at_k(passed, k) for k in _KS if k <= settings.samples}
        return Judgement({"loss": loss, **shares}, rows)

    def _judge(self, problem: Program, written: str) -> Verdict:
        return self._sandbox.judge(
            assemble(problem, written), problem.tests, provides=provided(problem)
        )
