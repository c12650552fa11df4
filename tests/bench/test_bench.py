"""`loram bench`: each measurement on tiny sizes, what it keeps, and what it refuses."""

import json
import math
import sys

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from loram import cli
from loram.bench import MEASUREMENTS, BenchError, BenchSettings, measured, memory
from loram.bench.growth import slope
from loram.bench.layer import FLOORS, LORAM, PEERS, floor_of, layer_works, weight
from loram.bench.models import SHAPES, total
from loram.bench.paired import Work, beside, ratio, rounds
from loram.bench.table import Measured, show
from loram.figures import FigureError

# By measurement: the rows of each of its tables, and the floors that they are compared with.
STARTS = {*FLOORS, *LORAM, *(name for name in PEERS if name not in ("pissa", "corda-ipm"))}
FORMS = {"lora", "loram", "loram-residual"}
EXPECTED = {
    "init": {"init_96x64_float32_r4": (STARTS, {"read", "norm", "norm + add"})},
    "models": {
        "models_tiny_float32_r4": (
            {*FLOORS, "nu", "lora", "loram", "loram-residual"},
            {"read", "norm", "norm + add"},
        ),
    },
    "growth": {
        "growth_float32": ({"read", "norm", "loram r 4", "loram-residual r 4"}, set()),
        "growth_rank_float32": (FORMS, set()),
    },
    "step": {"step_float32_r4": ({*FORMS, "frozen base"}, {"frozen base"})},
    "memory": {"memory_float32_r4": ({*FORMS, "frozen base"}, {"frozen base"})},
    "probe": {
        "probe_float32_r4": ({"lora", "loram"}, {"step"}),
        "low_rank_norm_r4": ({1.0, 0.1, 1e-3, 1e-5}, set()),
    },
    "export": {
        "export_float32_r4": (
            {"rank 2r", "rank r", "merged"}
            | (copies := {"copy of the adapter", "copy of rank 2r", "copy of merged"}),
            copies,
        )
    },
    "load": {"load_float32_r4": (FORMS, {"lora"})},
    "serve": {
        "serve_float32_r4": (
            {*FORMS, "base", "loram, merged", "loram, exported (rank 2r)"},
            {"base"},
        )
    },
}
# The real models of `models` need wheels.
CHOSEN = {"models": ["tiny"]}


def quick(tmp_path, **settings) -> BenchSettings:
    return BenchSettings(**({"quick": True, "dtype": ["float32"], "out": tmp_path} | settings))


def no_stage(what, parts):
    return lambda n: None


def test_every_measurement_is_tried_here():
    assert EXPECTED.keys() == MEASUREMENTS.keys()


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("ignore")  # PEFT's, of methods that are measured, not used
def test_a_measurement_keeps_the_rows_and_floors_it_says(name, tmp_path, monkeypatch):
    if name == "memory":
        if sys.platform != "linux":
            pytest.skip("reads /proc")
        monkeypatch.setattr(memory, "_in_a_process", memory._peaks)  # four would take a minute
    settings = quick(tmp_path, rounds=1, only=CHOSEN.get(name))
    tables = list(measured([name], settings, no_stage))
    assert {table.name for table in tables} == EXPECTED[name].keys()
    for table in tables:
        kept = json.loads((tmp_path / f"{table.name}.json").read_text())
        assert kept["rows"] == table.rows
        assert kept["title"] == table.title
        assert kept["machine"]["threads"] == torch.get_num_threads()
        assert all((tmp_path / file).stat().st_size > 0 for file in kept["files"])
        rows, floors = EXPECTED[name][table.name]
        assert {next(iter(row.values())) for row in kept["rows"]} == rows
        assert {row.get("floor") for row in kept["rows"]} - {None} == floors
        assert len({tuple(row) for row in kept["rows"]}) == 1, "rows of different columns"
        for row in kept["rows"]:
            for column, value in row.items():
                assert not isinstance(value, float) or math.isfinite(value), (column, row)
        over = [row["over floor"] for row in kept["rows"] if "over floor" in row and row["floor"]]
        assert all(value > 0 for value in over)


def test_a_real_model_is_compared_with_the_norm_of_its_weights(tmp_path):
    """The model is the tiny one; its rows are those of SmolLM2 and MiniLM."""
    settings = quick(tmp_path, rounds=1, only=["tiny model"], slow=True)
    (table,) = measured(["models"], settings, no_stage)
    rows = {row["work"]: row for row in table.rows}
    assert {"lora-ga", "corda-ipm", "pissa", "pissa-niter-4", "olora"} < rows.keys()
    assert rows["lora"]["beyond lora (s)"] == 0
    assert rows["loram"]["over loram"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_another_process(tmp_path):
    held = torch.ones(1 << 28)  # 1 GiB, which a peak of this process would have
    before, most = memory._in_a_process(quick(tmp_path), "float32", 4, "loram")
    assert 0 < before <= most < held.nbytes


def test_rows_of_a_real_model_may_be_chosen(tmp_path):
    settings = quick(tmp_path, rounds=1, only=["tiny model", "olora"])
    (table,) = measured(["models"], settings, no_stage)
    assert [row["work"] for row in table.rows] == ["norm of all weights", "lora", "loram", "olora"]


# ---- rounds --------------------------------------------------------------------------------------


def test_works_take_turns_after_the_warm_up_and_slow_ones_run_once():
    seen = []
    works = {
        "a": lambda: seen.append("a"),
        "b": Work(lambda x: seen.append(f"b{x}"), lambda: (len(seen),)),
        "slow": Work(lambda: seen.append("slow"), once=True),
    }
    ticks = []
    times = rounds(works, 2, told=ticks.append)
    assert seen == ["a", "b1", "a", "b3", "slow", "a", "b6"]
    assert {name: len(each) for name, each in times.items()} == {"a": 2, "b": 2, "slow": 1}
    assert sum(ticks) == 3


def test_ratios_are_of_rounds_not_of_medians():
    times = {"x": [1.0, 10.0, 3.0], "y": [2.0, 5.0, 3.0], "once": [6.0]}
    assert ratio(times, "x", "y") == {"median": 1.0, "min": 0.5, "max": 2.0}
    assert ratio(times, "once", "y")["median"] == 2.0
    row = beside(times, {"x": "y"}, against=("once", "absent"))[0]
    assert (row["ms"], row["fastest"], row["floor"]) == (3000.0, 1000.0, "y")
    assert (row["over floor"], row["least"], row["most"]) == (1.0, 0.5, 2.0)
    assert row["over once"] == 0.5
    assert "over absent" not in row


# ---- layers --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_what_rewrites_its_weight_gets_a_fresh_one():
    W = weight((96, 64), "float32")
    before = W.clone()
    for work in layer_works(W, 4, [*LORAM, *PEERS]).values():
        work.run(*work.prepare())
    assert torch.equal(W, before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_raw_read_sees_every_byte(dtype):
    W = weight((12, 8), dtype)
    work = layer_works(W, 4, (), floors=("read",))["read"]
    before = work.run()
    W.view(-1)[-1] += 1
    assert work.run() != before


def test_the_floor_of_a_rewriting_row_is_a_product_at_high_rank():
    assert [floor_of("loram-residual", r) for r in (16, 128)] == ["norm + add", "norm + addmm"]
    assert [floor_of("loram", r) for r in (16, 128)] == ["norm", "norm"]
    assert floor_of("lora", 16) is None


def test_shapes_sum_to_the_models_linear_layers():
    """LLaMA-2 has 6,738,415,616 parameters (7B) and 68,976,648,192 (70B)."""
    ends = {"llama-2-7b": (4096, 32), "llama-2-70b": (8192, 80)}
    wanted = {"llama-2-7b": 6_738_415_616, "llama-2-70b": 68_976_648_192}
    for name, (width, layers) in ends.items():
        linear = sum(n * m * count for (n, m), count in SHAPES[name].items())
        rest = 2 * 32000 * width + (2 * layers + 1) * width  # embeddings, head, norms
        assert linear + rest == wanted[name]


def test_a_models_total_weighs_each_shape_by_its_number_round_by_round():
    names = [*FLOORS, "loram"]
    found = {
        (1, 1): {name: [1.0, 2.0] for name in names},
        (2, 1): {name: [10.0, 20.0] for name in names},
    }
    assert total(found, {(1, 1): 3, (2, 1): 1})["loram"] == [13.0, 26.0]


def test_slope_is_the_exponent():
    assert slope([(x, 3 * x**1.5) for x in (1.0, 10.0, 100.0)]) == pytest.approx(1.5)
    assert slope([(1.0, 1.0)]) is None


# ---- the command ---------------------------------------------------------------------------------


def test_without_names_the_measurements_are_listed():
    done = CliRunner().invoke(cli.app, ["bench"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    said = " ".join(done.output.split())  # a narrow terminal wraps
    assert all(f"{name} {what}" in said for name, what in MEASUREMENTS.items())


def test_json_is_all_that_standard_output_has(tmp_path):
    words = ["bench", "init", "--quick", "--rounds", "2", "--rank", "4", "--dtype", "float32"]
    words += ["--only", "loram", "--shape", "48x32", "--json", "--out", str(tmp_path / "new")]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    (table,) = json.loads(done.stdout)
    assert table["name"] == "init_48x32_float32_r4"
    assert {row["work"] for row in table["rows"]} == {*FLOORS, "loram"}
    assert (tmp_path / "new" / "init_48x32_float32_r4.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["int"], "no measurement 'int'. Did you mean init?"),
        (["init", "--only", "lorm"], "no row 'lorm'"),
        (["models", "--only", "llama-3"], "no model or row 'llama-3'"),
        (["init", "--shape", "4096"], "--shape: expected out x in"),
        (["init", "--dtype", "int8"], "--dtype: expected float32"),
        (["init", "--rank", "0"], "--rank: expected 1 or more"),
        (["init", "--rounds", "0"], "--rounds"),
        (["growth", "--largest", "512"], "expected --largest of 1024 or more"),
        (["init", "--shape", "8x4", "--rank", "16", "--only", "loram"], "--rank of at most 4"),
        (["step", "--model", "no/such"], "can't load the name 'no/such'"),
    ],
)
def test_mistakes_are_said_without_a_traceback(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["loram", "bench", *words, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2, err
    assert message in err
    assert "Traceback" not in err


def test_unknown_names_are_told_before_anything_is_measured(tmp_path):
    with pytest.raises(BenchError, match="'a', 'b'"):
        next(measured(["init", "a", "b"], quick(tmp_path), no_stage))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_of_the_folder_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="Expected a folder"):
        next(measured(["init"], quick(tmp_path / "file"), no_stage))


def test_without_matplotlib_growth_is_refused_before_it_is_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def stage(what, parts):
        raise AssertionError(f"the measurement went on with {what!r}")

    with pytest.raises(FigureError, match="need matplotlib"):
        next(measured(["growth"], quick(tmp_path), stage))


def test_a_table_wider_than_the_terminal_loses_nothing(capsys):
    rows = [{"work": "w" * 30, "a number": 1.0, "another": None, "floor": "f" * 30}]
    show(Measured("x", "title", rows, "note"), Console(width=40))
    out = capsys.readouterr().out
    assert all(text in out for text in ("w" * 30, "a number", "f" * 30, "title", "note"))
