"""The methods table itself; what its rows say of PEFT is held to in tests/peft/test_attach.py."""

import re

import pytest

from loram.methods import METHODS, UnknownMethodError, custom, named
from loram.peft import parse

ROWS = list(METHODS.values())
OURS = ("loram", "milora", "lora-one")
WANTED = """full lora gaussian rslora lora+ pissa pissa-fast milora olora orthogonal eva corda-ipm
corda-kpm lora-ga lora-ga-rslora lora-one loram loram-residual loram-rslora loram-orthogonal
loram-gaussian loram-etf loram-spectral loram-gain-0.2 loram-gain-1 loram-track-pissa
loram-track-milora loram-track-corda loram-track-lora-ga"""


def test_every_method_that_was_promised_has_a_row():
    assert set(WANTED.split()) <= set(METHODS)


def test_rows_are_found_by_their_own_name_and_no_two_are_the_same_method():
    assert all(METHODS[row.name] is named(row.name) is row for row in ROWS)
    kinds = [
        (str(row.init), row.rslora, row.lr_ratio, sorted(row.settings.items())) for row in ROWS
    ]
    assert len({str(kind) for kind in kinds}) == len(ROWS)
    assert len({row.what for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", ["LoRA", " loram ", "Lora+", "CorDA-IPM"])
def test_case_and_blanks_do_not_matter(name):
    assert named(name).name == name.strip().lower()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("pisa", "pissa"),
        ("rs-lora", "rslora"),
        ("loraga", "lora-ga"),
        ("lora_one", "lora-one"),
        ("loram-trak-pissa", "loram-track-pissa"),
        ("corda", "corda-ipm"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones_and_all_of_them(name, near):
    with pytest.raises(UnknownMethodError) as refusal:
        named(name)
    asked, known = str(refusal.value).split("Known:")
    assert repr(name) in asked
    assert near in re.findall(r"[\w+.-]+", asked.split("Did you mean")[1])
    assert [each.strip() for each in known.split(",")] == list(METHODS)


@pytest.mark.parametrize("name", ["", "zzz", "loftq"])
def test_a_name_like_no_other_has_no_hint(name):
    with pytest.raises(UnknownMethodError, match=r"unknown method '\w*'\. Known: full, lora"):
        named(name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_row_says_agrees_with_its_init(row):
    ours = parse(row.init)
    assert row.by == ("-" if row.init is None else "loram" if row.name.startswith(OURS) else "PEFT")
    assert (ours is not None) == row.name.startswith("loram")
    assert (row.base == "trained") == (row.init is None)
    if ours is not None:
        assert row.base == ("rewritten" if ours.is_residual else "kept")
        assert (ours.tracked is not None) == row.name.startswith("loram-track-")
    assert re.fullmatch(r"\d{4}\.\d{5}|-", row.paper)


def test_scaling_and_optimiser_are_printed_as_rules():
    scaled = {row.name for row in ROWS if row.scaling == "α/√r"}
    assert (
        scaled == {"rslora", "lora-ga-rslora", "loram-rslora"} == {r.name for r in ROWS if r.rslora}
    )
    assert {row.scaling for row in ROWS} == {"-", "α/r", "α/√r"}
    ratios = {row.name: row.lr_ratio for row in ROWS if row.lr_ratio != 1}
    assert ratios == {"lora+": 4.0}
    assert "η_B = 4 η_A" in named("lora+").optimizer
    assert {"η" in row.optimizer for row in ROWS if row.name != "lora+"} == {False}


def test_rows_of_a_reference_and_of_loram_tracking_it_need_the_same_data():
    for row in ROWS:
        ours = parse(row.init)
        if ours is not None and ours.tracked is not None:
            assert {r.data for r in ROWS if r.init == ours.tracked} == {row.data}, row.name


@pytest.mark.parametrize(
    ("init", "data"),
    [
        ("loram(gain=0.5)", None),
        ("loram(gain=track:pissa_niter_16)", None),
        ("loram(gain=track:corda)", "inputs"),
        ("loram(gain=track:lora_ga, basis=etf)", "gradients"),
        ("loram(gain=track:lora_one)", "gradients"),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_a_string_of_ones_own_makes_a_row(init, data, residual):
    init = init.replace("loram", "loram_residual") if residual else init
    ours = parse(init)
    row = custom(init, rewrites=ours.is_residual, tracked=ours.tracked)
    assert (row.name, row.init, row.data, row.by) == (init, init, data, "loram")
    assert row.base == ("rewritten" if residual else "kept")


def test_rows_cannot_be_changed():
    with pytest.raises(AttributeError):
        METHODS["lora"].rslora = True
    with pytest.raises(TypeError):
        METHODS["lora"] = METHODS["loram"]
    with pytest.raises(TypeError):
        METHODS["corda-ipm"].settings["corda_method"] = "kpm"
