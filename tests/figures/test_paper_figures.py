"""The paper's figures at a tiny size: what they return is what their CSV holds and theory says."""

import csv
import math
from collections import defaultdict

import pytest
import torch

pytest.importorskip("matplotlib")

from loram.figures import FigureError, draw
from loram.figures.equivalence import PARTS, PLAIN, draw_equivalence
from loram.figures.growth_mlp import LINEAR, STARTS, draw_growth
from loram.figures.mlp import Network
from loram.figures.spectra import draw_spectra, weights_by_kind
from loram.magnitude import log_gain, spectral_gain

SMALL = {"depth": 3, "width": 48}


def rows_of(picture):
    for suffix in (".png", ".svg", ".csv"):
        assert picture.with_suffix(suffix).stat().st_size > 0
    with picture.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_equivalent_settings_are_one_curve_and_the_plain_one_is_off_it(tmp_path):
    picture = tmp_path / "a.png"
    found = draw_equivalence(picture, network=Network(**SMALL), r=4, steps=40)
    assert [each.optimizer for each in found] == ["SGD", "Adam"]
    for each in found:
        assert each.equivalent < 1e-9
        assert each.plain > 5
    rows = rows_of(picture)
    last = defaultdict(dict)
    for row in rows:
        if row["step"] == "40":
            last[row["optimizer"]][row["run"]] = float(row["nu_update"])
    for optimizer, by_run in last.items():
        equal = [value for name, value in by_run.items() if name != PLAIN]
        assert len(equal) == len(PARTS)
        assert max(equal) / min(equal) - 1 < 1e-9
        expected = {"sgd": found[0].plain, "adam": found[1].plain}[optimizer]
        assert equal[0] / by_run[PLAIN] == pytest.approx(expected)


def test_the_products_of_settings_that_matter_are_equal(tmp_path):
    """s size_A and η_A/size_A are what Proposition 1 keeps under Adam with a zero B."""
    picture = tmp_path / "a.png"
    draw_equivalence(picture, network=Network(**SMALL), r=4, steps=4)
    adam = [r for r in rows_of(picture) if r["optimizer"] == "adam" and r["run"] != PLAIN]
    for row in adam:
        s, size, lr_A, lr_B = (float(row[name]) for name in ("s", "size_A", "lr_A", "lr_B"))
        assert s * size * lr_B == pytest.approx(16 * 5e-5)
        assert lr_A / size == pytest.approx(5e-5)


def test_growth_meets_proposition_2_on_noise_and_outruns_it_on_signal(tmp_path):
    picture = tmp_path / "b.png"
    found = draw_growth(picture, network=Network(**SMALL), r=6, steps=60)
    noise = {each.start: each for each in found if each.signal == 0}
    assert set(noise) == {LINEAR, *STARTS}
    for each in noise.values():
        assert each.predicted == pytest.approx(1, abs=0.35)  # one seed, small layers
    # The paper's k₁ leaves the finite-size terms out, which only add.
    for name in STARTS:
        assert noise[name].k1 > noise[name].predicted
    signal = [each for each in found if each.signal > 0]
    assert all(each.predicted > 2 for each in signal)
    assert all(0.5 < each.persistent < 2 for each in signal)
    for row in rows_of(picture):
        if row["step"] == "60":
            ratio = float(row["nu_update"]) / float(row["proposition2"])
            same = [
                e.predicted
                for e in found
                if (e.signal, e.start) == (float(row["signal"]), row["start"])
            ]
            assert same == [pytest.approx(ratio)]


def test_spectral_gains_are_those_of_each_weight_and_end_at_one_scale(tmp_path):
    generator = torch.Generator().manual_seed(0)
    flat = [torch.linalg.qr(torch.randn(20, 20, generator=generator))[0] for _ in range(3)]
    low = [
        torch.randn(20, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
        for _ in range(2)
    ]
    picture = tmp_path / "c.png"
    gaps = draw_spectra(picture, {"made": {"flat": flat, "low": low}}, at=2)
    assert [(gap.kind, gap.r) for gap in gaps] == [("flat", 2), ("low", 2)]
    assert gaps[0].spectral == pytest.approx(2 / 20)  # orthogonal: Q[r] = r/R
    expected = torch.tensor([spectral_gain(W, 2) for W in low]).median()
    assert gaps[1].spectral == pytest.approx(
        sum(spectral_gain(W, 2) for W in low) / 2, rel=1e-5
    ) or gaps[1].spectral == pytest.approx(float(expected), rel=1e-5)
    assert gaps[1].log == log_gain(20, 30, 2)
    for row in rows_of(picture):
        assert float(row["q10"]) <= float(row["median"]) <= float(row["q90"]) <= 1 + 1e-9
        assert float(row["log_gain"]) == pytest.approx(math.log(int(row["r"])) / math.log(20))


def test_layer_kinds_are_names_inside_the_blocks(llama):
    kinds = weights_by_kind(llama())
    assert set(kinds) == {
        *(f"self_attn.{x}_proj" for x in "qkvo"),
        *(f"mlp.{x}_proj" for x in ("gate", "up", "down")),
    }
    assert {len(each) for each in kinds.values()} == {2}


def test_no_weights_to_draw(tmp_path):
    with pytest.raises(FigureError, match="linear layers"):
        draw_spectra(tmp_path / "c.png", {})


def test_runs_belong_to_growth_alone(tmp_path):
    with pytest.raises(FigureError, match="leave them out"):
        draw("2a", tmp_path, runs=[tmp_path])
    with pytest.raises(FigureError, match="got none"):
        draw("growth", tmp_path)
