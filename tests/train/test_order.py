"""Batches of examples of like length: all of them once an epoch, little padding, no curriculum."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_classifier import glue, settings_of, tiny_bert  # noqa: F401
from tiny import Killed, kill_at, rows

from loram.train import run
from loram.train.labelling import Labelling
from loram.train.order import ByLength

_draw = random.Random(0)
LENGTHS = [_draw.randint(3, 60) for _ in range(1000)]


def batches(order: list[int], size: int) -> list[list[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]


def padded(order: list[int], size: int) -> int:
    return sum(len(b) * max(LENGTHS[i] for i in b) for b in batches(order, size))


@given(st.lists(st.integers(1, 50)), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_every_example_comes_once_an_epoch(lengths, size, seed, epoch):
    order = ByLength(lengths, size, seed)
    order.set_epoch(epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert list(order) == list(order)


def test_most_of_the_padding_is_gone():
    shuffled = list(range(1000))
    random.Random(1).shuffle(shuffled)
    least = sum(LENGTHS)
    ours = padded(list(ByLength(LENGTHS, 8, 0)), 8) - least
    assert ours < 0.1 * (padded(shuffled, 8) - least)


def test_long_batches_do_not_come_first():
    """Rank correlation of place and length, over seeds: near zero."""
    from scipy.stats import spearmanr

    found = []
    for seed in range(20):
        order = batches(list(ByLength(LENGTHS, 8, seed)), 8)
        found.append(spearmanr(range(len(order)), [LENGTHS[b[0]] for b in order])[0])
    assert abs(sum(found) / len(found)) < 0.1


def test_epochs_and_seeds_differ():
    first, other = ByLength(LENGTHS, 8, 0), ByLength(LENGTHS, 8, 1)
    again = ByLength(LENGTHS, 8, 0)
    again.set_epoch(1)
    assert len({tuple(first), tuple(other), tuple(again)}) == 3


def test_a_killed_run_goes_on_with_the_same_batches(tiny_bert, glue, tmp_path, monkeypatch):  # noqa: F811
    """Over an epoch's end, and the batches are those of the sampler."""
    settings = settings_of(tiny_bert, glue, group_by_length=True, steps=8)
    seen: list[list[int]] = []
    made = Labelling.__init__

    def watched(self, *args):
        made(self, *args)
        collate, texts = self.collate, list(self.train)

        def noted(batch):
            seen.append([texts.index(row) if row in texts else -1 for row in batch])
            return collate(batch)

        self.collate = noted
        self.lengths = [len(row.input_ids) for row in texts]
        seen.append(self.lengths)

    monkeypatch.setattr(Labelling, "__init__", watched)
    run(settings, tmp_path / "whole")
    lengths, *whole = seen
    order = ByLength(lengths, settings.batch_size, settings.seed)
    expected = batches(list(order), settings.batch_size)
    order.set_epoch(1)
    expected += batches(list(order), settings.batch_size)
    assert whole[:8] == expected[:8]
    assert len(expected) > 8 > len(lengths) / settings.batch_size
    for at in (3, 7):
        with pytest.raises(Killed):
            run(settings, tmp_path / "killed", stage=kill_at("training", at))
    run(settings, tmp_path / "killed")
    losses = [rows(tmp_path / name / "losses.jsonl") for name in ("killed", "whole")]
    assert losses[0] == losses[1]
