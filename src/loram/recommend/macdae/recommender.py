"""A CTR base, alone or with an inferred context in front of it, trained end to end."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loram.recommend.encoders.deepfm import DeepFM
from loram.recommend.encoders.fields import Fields, FieldTable
from loram.recommend.encoders.fit import Batch
from loram.recommend.encoders.nfm import NFM
from loram.recommend.encoders.wide_deep import WideDeep
from loram.recommend.macdae.model import ContextModel

__all__ = ["BASES", "Recommender"]

BASES: dict[str, Callable[..., nn.Module]] = {
    "wide-deep": WideDeep,
    "deepfm": DeepFM,
    "nfm": NFM,
}


class Recommender(nn.Module):
    """Logits of a base; with a context model also z in its deep input, and the joint loss.

    Args:
        base: a name of `BASES`.
        fields: of the tokens.
        context: pretrained or fresh; None for the base alone.
        width: of the base's embeddings.
        hidden: of its perceptron.
        dropout: in it.
    """

    def __init__(
        self,
        base: str,
        fields: Fields,
        context: ContextModel | None = None,
        *,
        width: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.context = context
        # The context model may read fewer fields; they are among the base's.
        names = () if context is None else context.fields.names
        self.columns = [fields.names.index(name) for name in names]
        self.base = BASES[base](
            fields.sizes,
            width=width,
            hidden=hidden,
            dropout=dropout,
            context=0 if context is None else context.settings.width,
            replace=context is not None and context.settings.join == "replace",
        )

    def cold(self, tokens: Tensor) -> None:
        """Zero the vectors of what is in no row of tokens (n, fields), those of training."""
        for module in self.base.modules():
            if isinstance(module, FieldTable):
                module.cold(tokens)
        if self.context is not None:
            self.context.table.cold(tokens[:, self.columns])

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n,) of tokens (n, fields)."""
        z = None if self.context is None else self.context(tokens[:, self.columns])
        return self.base(tokens, z)

    def loss(self, batch: Batch) -> Tensor:
        """Binary cross-entropy; in the joint schedule also the positives' reconstruction."""
        tokens, label = batch["tokens"], batch["label"]
        if self.context is None or self.context.settings.schedule == "pretrain":
            return F.binary_cross_entropy_with_logits(self(tokens), label)
        coded, x = self.context.code(tokens[:, self.columns])
        loss = F.binary_cross_entropy_with_logits(self.base(tokens, coded.z), label)
        cost = (self.context.cost(coded, x) * label).sum() / label.sum().clamp(min=1)
        return loss + self.context.settings.share * cost

    @torch.no_grad()
    def score(self, tokens: Tensor, *, batch: int = 8192) -> Tensor:
        """Logits (n,) in eval mode, by parts."""
        self.eval()
        return torch.cat([self(part) for part in tokens.split(batch)])
