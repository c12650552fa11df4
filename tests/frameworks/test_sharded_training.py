"""Two processes give the losses and the adapter of one: DDP, FSDP2 and, if installed, ZeRO-3."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sharded_steps import WRAPS, alone

from conftest import make_llama

HERE = Path(__file__).parent
FORMS = ["loram", "loram_residual"]
# The residual form rewrites weights, which the second process does not have then.
CASES = [
    f"{wrap}-{form}" for wrap in WRAPS for form in FORMS if (wrap, form) != ("fsdp2ram", FORMS[1])
]


def launch(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(HERE / script), *arguments),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where one process has trained, by form."""
    path = tmp_path_factory.mktemp("sharded")
    make_llama().save_pretrained(path / "base")
    for form in FORMS:
        losses = alone(path, form, path / f"alone-{form}")
        (path / f"alone-{form}" / "losses.json").write_text(json.dumps(losses))
    return path


@pytest.fixture(scope="module")
def together(folder) -> Path:
    """Where two have, by case."""
    launch("sharded_steps.py", str(folder), *CASES)
    return folder


def assert_same_run(folder: Path, case: str, record_property) -> None:
    form = case.split("-")[1]
    got, expected = (folder / name for name in (case, f"alone-{form}"))
    curves = [
        torch.tensor(json.loads((path / "losses.json").read_text()), dtype=torch.float64)
        for path in (got, expected)
    ]
    record_property("losses", float((curves[0] / curves[1] - 1).abs().max()))
    torch.testing.assert_close(*curves, rtol=1e-5, atol=0)
    theirs, ours = (load_file(path / "adapter_model.safetensors") for path in (got, expected))
    assert theirs.keys() == ours.keys()
    apart = {}
    for name, tensor in ours.items():
        assert theirs[name].dtype == tensor.dtype
        if tensor.dtype == torch.int64:
            assert torch.equal(theirs[name], tensor), name
        else:
            difference = (theirs[name].double() - tensor.double()).norm()
            apart[name] = float(difference / tensor.double().norm())
    record_property("adapter", max(apart.values()))
    assert max(apart.values()) <= 1e-6, apart
    assert json.loads((got / "adapter_config.json").read_text())["init_lora_weights"] == form


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_and_save_as_one(together, case, record_property):
    assert_same_run(together, case, record_property)


@pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="needs deepspeed")
def test_zero3_trains_and_saves_as_one_process(folder, record_property):
    launch("zero3_steps.py", str(folder), *FORMS)
    for form in FORMS:
        assert_same_run(folder, f"zero3-{form}", record_property)
