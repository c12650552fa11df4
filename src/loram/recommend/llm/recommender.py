"""The whole model: a causal language model with an adapter, vectors, projectors and gates."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from loram.peft.gated import Gates
from loram.recommend.llm.batch import Batch
from loram.recommend.llm.inject import inject
from loram.recommend.llm.projector import Projectors
from loram.recommend.llm.vectors import Vectors

__all__ = ["Recommender", "Router"]


class Router(nn.Module):
    """Gates of the experts from one vector of the case: softmax(Wv + b) (arXiv 2408.10159)."""

    def __init__(self, width: int, experts: int, kind: Literal["sequence", "context"]) -> None:
        """Make it.

        Args:
            width: of the vector.
            experts: how many.
            kind: of the vector.
        """
        super().__init__()
        self.linear = nn.Linear(width, experts)
        self.kind = kind

    def forward(self, vectors: Tensor) -> Tensor:
        """(batch, width) → (batch, experts), each row adds to one."""
        return self.linear(vectors).softmax(-1)


class Recommender(nn.Module):
    """Reads batches of prompts with slots, and gives logits."""

    def __init__(
        self,
        llm: Any,
        vectors: Vectors,
        projectors: Projectors | None = None,
        router: Router | None = None,
        gates: Gates | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            llm: a causal language model of Transformers, plain or PEFT's.
            vectors: the encoder's.
            projectors: for slots; None for text alone.
            router: of a gated adapter.
            gates: what the layers of the gated adapter read.
        """
        super().__init__()
        if (router is None) != (gates is None):
            raise ValueError("a router and the gates of its layers go together")
        self.llm, self.vectors, self.projectors = llm, vectors, projectors
        self.router, self.gates = router, gates
        inner = llm.get_base_model() if hasattr(llm, "get_base_model") else llm
        takes = inspect.signature(inner.forward).parameters
        self._takes = {name for name in ("position_ids", "logits_to_keep") if name in takes}
        head = inner.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(_contiguous)

    @property
    def device(self) -> torch.device:
        """Of the language model."""
        return next(self.llm.parameters()).device

    def embedded(self, batch: Batch) -> Tensor:
        """Input embeddings (batch, length, hidden), with the slots' vectors written in.

        Raises:
            ValueError: a slot without a projector or without vectors.
        """
        embeddings = self.llm.get_input_embeddings()(batch.ids)
        if not batch.slots:
            return embeddings
        if self.projectors is None:
            raise ValueError("the prompt has slots, and the model was built for text alone")
        return inject(embeddings, batch.is_slot, self.projectors(batch.slots, self.vectors))

    def gated(self, rows: Sequence[int]) -> AbstractContextManager[None]:
        """The gates of these cases, for as long as the model is run; nothing without a router."""
        if self.router is None or self.gates is None:
            return nullcontext()
        return self.gates.using(self.router(self.vectors.rows(self.router.kind, rows)))

    def forward(
        self, batch: Batch, *, keep: int = 0, past: Any = None, use_cache: bool = False
    ) -> Any:
        """What the language model returns; its logits are of the last `keep` positions at least.

        Args:
            batch: on the model's device.
            keep: positions to compute logits for; 0 for all.
            past: cache of a prefix of every example, as Transformers has it. The batch's mask and
                positions are of what follows.
            use_cache: return one.
        """
        mask = batch.mask
        if past is not None:
            seen = mask.new_ones(len(mask), past.get_seq_length())
            mask = torch.cat([seen, mask], 1)
        named = {"position_ids": batch.positions, "logits_to_keep": keep}
        with self.gated(batch.rows):
            return self.llm(
                inputs_embeds=self.embedded(batch),
                attention_mask=mask,
                past_key_values=past,
                use_cache=use_cache,
                **{name: value for name, value in named.items() if name in self._takes},
            )


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The last positions of a batch are a view, for which torch copies the head once an example."""
    return tuple(each.contiguous() for each in args)
