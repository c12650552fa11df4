"""Classical encoders: their equations, determinism, cold starts, and what they learn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import made

from loram.recommend.encoders import (
    MF,
    Encoder,
    FitSettings,
    MfSettings,
    SASRec,
    SasrecSettings,
    fit_mf,
    fit_sasrec,
)  # fmt: skip
from loram.recommend.encoders.deepfm import DeepFM
from loram.recommend.encoders.fields import Fields, FieldTable
from loram.recommend.encoders.fit import fit
from loram.recommend.encoders.nfm import NFM
from loram.recommend.encoders.seeding import seeded
from loram.recommend.encoders.wide_deep import WideDeep
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Column, Interactions
from loram.recommend.metrics import auc
from loram.recommend.samples import samples
from loram.recommend.splits import temporal_per_user

QUICK = FitSettings(epochs=12, batch=64, lr=0.02, patience=12)


def cyclic() -> Interactions:
    """Every user goes round the items in the same order: the next one is certain."""
    users, each, items = 20, 24, 12
    user = np.repeat(np.arange(users), each)
    item = (np.tile(np.arange(each), users) + user) % items
    names = tuple(map(str, range(users))), tuple(map(str, range(items)))
    return Interactions("cyclic", user, item, *names, time=np.arange(len(user)).astype(float))


def test_tokens_are_codes_plus_one_and_zero_is_unknown() -> None:
    data = made()
    fields = Fields.of(data)
    assert fields == (("user", "item", "daypart", "age"), (31, 41, 3, 4))
    tokens = fields.tokens(data)
    np.testing.assert_array_equal(tokens[:, 0], data.user + 1)
    np.testing.assert_array_equal(tokens[:, 3], data.user_features["age"].codes[data.user] + 1)
    strange = fields.tokens_of(
        data, np.array([UNKNOWN, 99]), np.array([40, 3]), {"daypart": np.array([7, 1])}
    )
    assert strange.tolist() == [[0, 0, 0, 0], [0, 4, 2, 0]]
    with pytest.raises(RecommendError, match="'daypart'"):
        fields.tokens(replace(data, context={}))


def test_the_unknown_row_is_zero_and_stays() -> None:
    table = FieldTable((3, 4), 5)
    vectors = table(torch.tensor([[0, 0], [2, 3]]))
    assert not vectors[0].any()
    vectors.sum().backward()
    assert table.weight.grad is not None
    assert not table.weight.grad[[0, 3]].any()
    torch.testing.assert_close(table.field(1, 4)[3], vectors[1, 1])


def test_deepfm_and_nfm_are_their_equations() -> None:
    sizes = (4, 5, 3)
    tokens = torch.tensor([[1, 2, 1], [3, 4, 2]])
    pairs = [(0, 1), (0, 2), (1, 2)]
    fm = DeepFM(sizes, width=6, hidden=(7,)).eval()
    v = fm.table(tokens)
    products = torch.stack([v[:, a] * v[:, b] for a, b in pairs]).sum(0)
    expected = fm.linear(tokens) + products.sum(1) + fm.deep(v.flatten(1)).squeeze(1)
    torch.testing.assert_close(fm(tokens), expected)
    nfm = NFM(sizes, width=6, hidden=(7,)).eval()
    v = nfm.table(tokens)
    products = torch.stack([v[:, a] * v[:, b] for a, b in pairs]).sum(0)
    expected = nfm.linear(tokens) + nfm.deep(nfm.norm(products)).squeeze(1)
    torch.testing.assert_close(nfm(tokens), expected)


@pytest.mark.parametrize("base", [WideDeep, DeepFM, NFM])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_context_changes_the_deep_input_alone(
    base: Callable[..., torch.nn.Module], replaces: bool
) -> None:
    model = base((4, 5), width=3, hidden=(8,), context=2, replace=replaces).eval()
    tokens = torch.tensor([[1, 2], [3, 4]])
    one, other = model(tokens, torch.zeros(2, 2)), model(tokens, torch.ones(2, 2) * 5)
    assert one.shape == (2,)
    assert (one != other).all()
    own = 3 if base is NFM else 6
    assert next(iter(model.deep)).in_features == (2 if replaces else 2 + own)


def test_a_fit_is_deterministic_keeps_its_best_and_leaves_the_generator() -> None:
    rows = {"x": torch.linspace(-1, 1, 40)[:, None]}

    class Line(torch.nn.Linear):
        def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return ((self(batch["x"]) - 3 * batch["x"]) ** 2).mean()

    def one() -> tuple[torch.Tensor, list[float]]:
        with seeded(1):
            model = Line(1, 1)
        told = iter([0.1, 0.9, 0.2, 0.3])
        state = list[torch.Tensor]()

        def validate() -> float:
            state.append(model.weight.detach().clone())
            return next(told)

        curve = fit(model, rows, validate, FitSettings(epochs=9, batch=7, lr=0.1, patience=2))
        assert curve == ((0.1, 0.9, 0.2, 0.3), 1)
        torch.testing.assert_close(model.weight.detach(), state[1])
        return model.weight.detach(), list(curve.values)

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = one()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(one()[0], first[0])


def test_a_fit_tells_what_it_cannot_learn_from() -> None:
    model = MF(3, 3, MfSettings(width=2))
    none = {"user": torch.zeros(0)}
    with pytest.raises(RecommendError, match="rows to train on"):
        fit(model, none, lambda: 0.0, QUICK)
    rows = {"user": torch.tensor([1]), "item": torch.tensor([1]), "label": torch.tensor([np.nan])}
    with pytest.raises(RecommendError, match="the loss is nan"):
        fit(model, rows, lambda: 0.0, QUICK)


@pytest.mark.parametrize("loss", ["bce", "bpr"])
def test_mf_learns_who_likes_what(loss: str, tmp_path: Path) -> None:
    data = made(users=40, items=30, each=25)
    rows = temporal_per_user(data)
    settings = MfSettings.model_validate({"width": 8, "loss": loss})
    model, curve = fit_mf(data, rows.train, rows.valid, settings, QUICK)
    everything = model.score(data.user, data.item)
    assert auc(data.labels()[rows.test], everything[rows.test]) > 0.7
    assert len(curve.values) > 1
    again, _ = fit_mf(data, rows.train, rows.valid, settings, QUICK)
    np.testing.assert_array_equal(again.score(data.user, data.item), everything)
    model.save(tmp_path / "mf")
    loaded = MF.load(tmp_path / "mf")
    np.testing.assert_array_equal(loaded.score(data.user, data.item), everything)


def encoders() -> list[Encoder]:
    return [MF(30, 40, MfSettings(width=8)), SASRec(40, SasrecSettings(width=8, length=6)).eval()]


@pytest.mark.parametrize("encoder", encoders(), ids=["mf", "sasrec"])
def test_vectors_have_the_widths_that_are_said_and_the_unknown_is_zero(encoder: Encoder) -> None:
    data = made()
    chosen = samples(data, np.arange(9), length=4)
    empty = np.full((9, 4), UNKNOWN)
    cold = replace(chosen, user=np.full(9, UNKNOWN), item=np.full(9, 99), history=empty)
    vectors, zeros = encoder.encode(chosen), encoder.encode(cold)
    assert {name: v.shape for name, v in vectors.items()} == {
        name: (9, width) for name, width in encoder.widths.items()
    }
    assert not any(v.requires_grad for v in vectors.values())
    assert not any(v.any() for v in zeros.values())
    torch.testing.assert_close(encoder.item_vectors(chosen.item), vectors["item"])
    assert encoder.item_vectors(chosen.history).shape == (9, 4, encoder.widths["item"])


def test_sasrec_learns_an_order_and_is_saved(tmp_path: Path) -> None:
    data = cyclic()
    rows = temporal_per_user(data)
    settings = SasrecSettings(width=16, length=6, dropout=0.0)
    plan = FitSettings(epochs=25, batch=16, lr=0.01, patience=25)
    valid = samples(data, rows.valid, length=6)
    model, curve = fit_sasrec(data, rows.train, valid, settings, plan)
    assert max(curve.values) > 0.9
    test = samples(data, rows.test, length=6)
    candidates = np.tile(np.arange(12), (len(test), 1))
    hit = model.score(test, candidates).argmax(1) == test.item
    assert hit.mean() > 0.9
    model.save(tmp_path / "sasrec")
    loaded = SASRec.load(tmp_path / "sasrec")
    np.testing.assert_array_equal(loaded.score(test, candidates), model.score(test, candidates))


def test_sasrec_sees_no_later_item_and_no_padding() -> None:
    model = SASRec(9, SasrecSettings(width=8, length=5)).eval()
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    changed = torch.tensor([[1, 2, 3, 9, 8]])
    torch.testing.assert_close(model.states(tokens)[:, :3], model.states(changed)[:, :3])
    short = torch.tensor([[0, 0, 3, 4, 5]])
    torch.testing.assert_close(model.states(short)[:, 2:], model.states(tokens[:, 2:]))
    assert not model.states(short)[:, :2].any()


def test_damaged_folders_are_told(tmp_path: Path) -> None:
    model = MF(3, 3, MfSettings(width=2))
    model.save(tmp_path / "mf")
    with pytest.raises(RecommendError, match="not there yet"):
        model.save(tmp_path / "mf")
    with pytest.raises(RecommendError, match="loram-sasrec/1"):
        SASRec.load(tmp_path / "mf")
    (tmp_path / "mf" / "encoder.safetensors").write_bytes(b"cut")
    for folder in ("mf", "none"):
        with pytest.raises(RecommendError, match=r"encoder\.json"):
            MF.load(tmp_path / folder)


def test_validation_of_one_class_is_told() -> None:
    data = made()
    liked = np.flatnonzero(data.labels() == 1)
    with pytest.raises(RecommendError, match="both labels"):
        fit_mf(data, liked, liked[:9])
    with pytest.raises(RecommendError, match="positive validation"):
        fit_sasrec(data, liked, samples(data, np.flatnonzero(data.labels() == 0)[:5]))


def with_a_stranger(data: Interactions) -> tuple[Interactions, np.ndarray]:
    """User 0 and item 0 have no training row; user 1 likes item 0 in the rest."""
    known = (data.user != 0) & (data.item != 0)
    return data, np.flatnonzero(known)


def test_who_has_no_training_row_has_the_vector_of_the_unknown() -> None:
    data, train = with_a_stranger(made())
    rows = np.setdiff1d(np.arange(len(data)), train)
    mf, _ = fit_mf(data, train, train, training=QUICK)
    asked = samples(data, rows)
    vectors = mf.encode(asked)
    assert not vectors["user"][asked.user == 0].any()
    assert not vectors["item"][asked.item == 0].any()
    assert vectors["user"][asked.user != 0].any(1).all()


def test_fields_forget_what_was_not_learnt_from() -> None:
    table = FieldTable((4, 3), 2)
    table.cold(torch.tensor([[1, 2], [3, 0]]))
    seen = table.weight.detach().any(1).tolist()
    assert seen == [False, True, False, True, True, False, True]


def test_fields_of_one_name_are_told() -> None:
    data = made()
    both = replace(data, item_features={"age": Column(np.zeros(40, dtype=np.int64), ("new",))})
    with pytest.raises(RecommendError, match="age twice: rename"):
        Fields.of(both)


def test_a_validation_that_is_no_number_is_told() -> None:
    data = made()
    model = MF(30, 40, MfSettings())
    rows = {
        "user": torch.from_numpy(data.user + 1),
        "item": torch.from_numpy(data.item + 1),
        "label": torch.from_numpy(data.labels()).float(),
    }
    with pytest.raises(RecommendError, match="no number to choose an epoch by"):
        fit(model, rows, lambda: float("nan"), QUICK)
