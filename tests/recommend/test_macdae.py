"""MACDAE: its equations, every repair by name, the standalone encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import made
from pydantic import ValidationError
from torch.nn import functional as F

from loram.recommend.encoders.fields import Fields
from loram.recommend.encoders.fit import FitSettings, fit
from loram.recommend.encoders.seeding import seeded
from loram.recommend.errors import LeakError, RecommendError
from loram.recommend.interactions import UNKNOWN
from loram.recommend.macdae import PAPER_CODE, REPAIRS, ContextEncoder, MacdaeSettings
from loram.recommend.macdae.coders import Heads, Vae
from loram.recommend.macdae.context import pretrained
from loram.recommend.macdae.model import ContextModel
from loram.recommend.macdae.neighbours import Neighbours
from loram.recommend.macdae.recommender import BASES, Recommender
from loram.recommend.metrics import auc
from loram.recommend.samples import samples
from loram.recommend.splits import check_neighbours, temporal_per_user

SMALL = MacdaeSettings(heads=2, width=8, embedding=4, epochs=2)
QUICK = FitSettings(epochs=8, batch=64, lr=0.02, patience=8)


def small(**changed: object) -> MacdaeSettings:
    return MacdaeSettings.model_validate({**SMALL.model_dump(), **changed})


def test_heads_are_the_papers_equations() -> None:
    heads = Heads(5, SMALL).eval()
    x = torch.randn(3, 5)
    expected = []
    for n in range(3):
        h = [F.softplus(e.weight @ x[n] + e.bias) for e in heads.encoders]
        query = heads.query.weight @ x[n]
        a = torch.softmax(torch.stack([query @ one for one in h]), 0)
        expected.append(torch.cat([a[k] * h[k] for k in range(2)]))
    coded = heads(x)
    torch.testing.assert_close(coded.z, torch.stack(expected))
    torch.testing.assert_close(coded.reconstruction, heads.decoder(coded.z))


def test_each_head_has_a_mask_of_its_own_and_the_query_is_clean() -> None:
    heads = Heads(50, small(keep=0.5)).train()
    seen: list[torch.Tensor] = []
    for part in (*heads.encoders, heads.query):
        part.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    x = torch.ones(4, 50)
    heads(x)
    assert not torch.equal(seen[0], seen[1])
    assert 0.3 < seen[0].mean() < 0.7
    assert torch.equal(seen[2], x)


def test_the_hinge_asks_for_no_more_than_epsilon() -> None:
    h = torch.stack([torch.eye(2), torch.tensor([[1.0, 0], [1, 1e-9]])])  # cos 0, cos 1
    hinge = Heads(3, small(epsilon=0.75)).disagreement(h)
    linear = Heads(3, small(epsilon=0.75, penalty="linear")).disagreement(h)
    torch.testing.assert_close(hinge, torch.tensor([0, 0.25]))
    torch.testing.assert_close(linear, torch.tensor([-0.75, 0.25]))


def test_the_vae_is_its_mean_in_use_and_its_kl_is_right() -> None:
    vae = Vae(5, SMALL).eval()
    x = torch.randn(4, 5)
    assert torch.equal(vae(x).z, vae(x).z)
    mean, log_variance = vae.encoder(x).chunk(2, 1)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    unit = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    kl = torch.distributions.kl_divergence(normal, unit).mean(1)
    torch.testing.assert_close(vae(x).penalty, kl)
    vae.train()
    assert not torch.equal(vae(x).z, vae(x).z)


@pytest.mark.parametrize("own", [True, False])
def test_neighbours_are_means_of_lists(own: bool) -> None:
    user, item = np.array([0, 0, 1, 0, UNKNOWN]), np.array([0, 2, 2, 0, 1])  # (0, 0) twice: once
    lists = Neighbours(user, item, 3, 4, own=own)
    users = torch.cat([torch.zeros(1, 2), torch.randn(3, 2)])
    items = torch.cat([torch.zeros(1, 2), torch.randn(4, 2)])
    asked = [(1, 1), (1, 2), (3, 3), (0, 3), (2, 3)]
    u, i = torch.tensor(asked).T
    of_user, of_item = lists.means(*lists.sums(users, items), users, items, u, i)
    pairs = {(1, 1), (1, 3), (2, 3)}
    for n, pair in enumerate(asked):
        kept = pairs if own else pairs - {pair}
        mine = [items[b] for a, b in kept if a == pair[0]]
        theirs = [users[a] for a, b in kept if b == pair[1]]
        zero = torch.zeros(2)
        torch.testing.assert_close(of_user[n], torch.stack(mine).mean(0) if mine else zero)
        torch.testing.assert_close(of_item[n], torch.stack(theirs).mean(0) if theirs else zero)


def test_reduction_and_target_are_as_named() -> None:
    data = made()
    fields = Fields.of(data)
    tokens = fields.tokens(data)[:16]
    costs = {}
    for reduction in ("mean", "sum"):
        with seeded(0):
            model = ContextModel(fields, small(weight=0.0, reduction=reduction)).eval()
        costs[reduction] = model.cost(*model.code(tokens))
    torch.testing.assert_close(costs["sum"], costs["mean"] * model.inputs)
    gradients = {}
    for target in ("detached", "trainable"):
        with seeded(0):
            model = ContextModel(fields, small(weight=0.0, target=target)).eval()
        for part in model.coder.parameters():
            torch.nn.init.zeros_(part)  # nothing reaches the table through the coder
        model.loss({"tokens": tokens}).backward()
        assert model.table.weight.grad is not None
        gradients[target] = float(model.table.weight.grad.abs().sum())
    assert gradients["detached"] == 0
    assert gradients["trainable"] > 0


def test_paper_code_undoes_every_repair_and_nothing_else() -> None:
    assert PAPER_CODE.model_dump(exclude_defaults=True) == {
        "penalty": "linear", "target": "trainable", "reduction": "sum", "neighbours": "all",
        "own": "kept", "features": "ids", "schedule": "pretrain", "join": "replace",
    }  # fmt: skip
    for undone in REPAIRS.values():
        assert len(undone) == 1
        assert MacdaeSettings.model_validate(undone) != MacdaeSettings()
    assert (PAPER_CODE.heads, PAPER_CODE.width, PAPER_CODE.embedding) == (4, 256, 64)


def test_settings_that_cannot_be_are_told() -> None:
    for bad in ({"heads": 3}, {"colour": 1}, {"keep": 0}, {"penalty": "square"}):
        with pytest.raises(ValidationError):
            MacdaeSettings.model_validate(bad)


def test_lists_are_of_training_positives_unless_asked_otherwise() -> None:
    data = made()
    rows = temporal_per_user(data)
    for neighbours, leaks in (("train", False), ("all", True)):
        model = pretrained(data, rows.train, small(neighbours=neighbours, epochs=0), QUICK)
        pairs = model.neighbours.pairs.numpy()
        used = np.flatnonzero(np.isin(data.user * len(data.items) + data.item, pairs))
        if leaks:
            with pytest.raises(LeakError):
                check_neighbours(used, rows.test)
        else:
            check_neighbours(used, rows.test)
            assert (data.labels()[used] == 1).all()


def test_features_are_read_only_where_asked() -> None:
    data = made()
    rows = np.arange(len(data))
    both = {
        name: pretrained(data, rows, small(features=name, epochs=0), QUICK)
        for name in ("context", "ids")
    }
    assert both["context"].fields.names == ("user", "item", "daypart", "age")
    assert both["ids"].fields.names == ("user", "item")


@pytest.mark.parametrize("kind", ["macdae", "dae", "vae"])
def test_pretraining_reconstructs_better(kind: str) -> None:
    data = made()
    rows = np.arange(len(data))
    tokens = Fields.of(data).tokens(data)
    cost = []
    for epochs in (0, 20):
        model = pretrained(data, rows, small(kind=kind, epochs=epochs, weight=0.0), QUICK)
        with torch.no_grad():
            x = model.input(tokens)
            cost.append(float(model.loss({"tokens": tokens}) / x.var()))
    assert cost[1] < 0.7 * cost[0]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("schedule", ["joint", "pretrain"])
def test_recommenders_learn_with_a_context(base: str, schedule: str) -> None:
    data = made(users=40, items=30, each=25)
    rows, label = temporal_per_user(data), made(users=40, items=30, each=25).labels()
    fields = Fields.of(data)
    tokens = fields.tokens(data)
    context = pretrained(data, rows.train, small(schedule=schedule), QUICK)
    with seeded(0):
        model = Recommender(base, fields, context, width=4, hidden=(16,))
    before = context.coder.decoder.weight.detach().clone()
    learn = {"tokens": tokens[rows.train], "label": torch.tensor(label[rows.train]).float()}

    def validate() -> float:
        return auc(label[rows.valid], model.score(tokens[rows.valid]).double().numpy())

    fit(model, learn, validate, QUICK)
    assert auc(label[rows.test], model.score(tokens[rows.test]).double().numpy()) > 0.65
    # The decoder learns on in the joint schedule alone.
    assert torch.equal(context.coder.decoder.weight, before) == (schedule == "pretrain")


def test_the_encoder_stands_alone_and_is_saved(tmp_path: Path) -> None:
    data = made()
    encoder = ContextEncoder.fit(data, settings=SMALL, training=QUICK)
    assert encoder.widths == {"context": 8}
    chosen = samples(data, np.arange(7), length=0)
    many = encoder.encode(chosen)["context"]
    for n in range(7):
        explicit = {"daypart": ("morning", "evening")[data.context["daypart"].codes[n]]}
        one = encoder.context(data.users[data.user[n]], data.items[data.item[n]], explicit)
        torch.testing.assert_close(one, many[n])
    other = {"morning": "evening", "evening": "morning"}
    assert not torch.equal(
        encoder.context("u1", "i1", {"daypart": "morning"}),
        encoder.context("u1", "i1", {"daypart": other["morning"]}),
    )
    encoder.save(tmp_path / "context")
    loaded = ContextEncoder.load(tmp_path / "context")
    torch.testing.assert_close(loaded.encode(chosen)["context"], many)
    torch.testing.assert_close(loaded.context("u2", "i3"), encoder.context("u2", "i3"))
    torch.testing.assert_close(loaded.item_vectors(data.item), encoder.item_vectors(data.item))
    assert encoder.item_vectors(np.array([[0, UNKNOWN]])).shape == (1, 2, 4)


def test_cold_requests_have_a_context_and_strange_ones_an_error() -> None:
    data = made()
    encoder = ContextEncoder.fit(data, settings=small(epochs=0), training=QUICK)
    cold = encoder.context("nobody", "nothing")
    assert torch.isfinite(cold).all()
    assert torch.equal(cold, encoder.context("?", "??", {"daypart": "dusk"}))
    with pytest.raises(RecommendError, match="'moon'"):
        encoder.context("u1", "i1", {"moon": "full"})


def test_damaged_encoders_are_told(tmp_path: Path) -> None:
    encoder = ContextEncoder.fit(made(), settings=small(epochs=0), training=QUICK)
    encoder.save(tmp_path / "a")
    with pytest.raises(RecommendError, match="not there yet"):
        encoder.save(tmp_path / "a")
    (tmp_path / "a" / "context.safetensors").write_bytes(b"")
    for name in ("a", "none"):
        with pytest.raises(RecommendError, match=r"context\.json"):
            ContextEncoder.load(tmp_path / name)
    (tmp_path / "a" / "context.json").write_text('{"format": "other"}')
    with pytest.raises(RecommendError, match="loram-context/1"):
        ContextEncoder.load(tmp_path / "a")


def test_unlabelled_rows_are_positives() -> None:
    data = replace(made(), label=None)
    model = pretrained(data, np.arange(len(data)), small(epochs=1), QUICK)
    assert len(model.neighbours.pairs) == len(data)


def test_who_is_not_learnt_from_is_unknown_to_the_context() -> None:
    data = replace(made(), user_features={})
    train = np.flatnonzero((data.user != 0) & (data.item != 0))
    encoder = ContextEncoder.fit(data, train, SMALL, QUICK)
    nobody = encoder.context("nobody", "i3")
    torch.testing.assert_close(encoder.context("u0", "i3"), nobody)
    assert not torch.equal(encoder.context("u1", "i3"), nobody)
