"""`loram run`: commands that know nothing of loram, and what they start, know its strings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from loram.launch import HOOKS, environment

TARGETS = ["q_proj", "up_proj"]


def paths(env) -> list[str]:
    return env["PYTHONPATH"].split(os.pathsep)


# ---- the environment -----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [[], ["/one"], ["/one", "/two"], ["/one", str(HOOKS), "/two"]])
def test_hooks_are_first_once_and_the_rest_stays(known):
    base = {"PATH": "/bin", "PYTHONPATH": os.pathsep.join(known)}
    env = environment(None, base)
    assert paths(env)[0] == str(HOOKS)
    assert paths(env).count(str(HOOKS)) == 1
    assert [path for path in paths(env) if path in ("/one", "/two")] == [
        path for path in known if path != str(HOOKS)
    ]
    assert env["PATH"] == "/bin"
    assert environment(None, env) == env
    assert base == {"PATH": "/bin", "PYTHONPATH": os.pathsep.join(known)}  # not written to


@pytest.mark.parametrize("before", [{}, {"LORAM_INIT": "loram"}])
@pytest.mark.parametrize("init", [None, "loram(gain=0.5)"])
def test_the_default_init_is_what_was_asked_for(before, init):
    assert environment(init, before).get("LORAM_INIT") == init


# ---- the default init, in a process where loram is registered ------------------------------------


@pytest.mark.parametrize("default", ["loram", "loram_residual(basis=etf, seed=2)"])
def test_a_config_left_at_its_default_becomes_loram(llama, monkeypatch, default):
    monkeypatch.setenv("LORAM_INIT", default)
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=TARGETS))
    assert model.peft_config["default"].init_lora_weights == default
    assert any("lora_basis" in name for name in model.state_dict())


@pytest.mark.parametrize("init", [False, "gaussian", "pissa", "orthogonal"])
def test_a_config_that_asks_for_something_gets_it(llama, monkeypatch, init):
    monkeypatch.setenv("LORAM_INIT", "loram")
    config = LoraConfig(r=4, target_modules=TARGETS, init_lora_weights=init)
    model = get_peft_model(llama(), config)
    assert model.peft_config["default"].init_lora_weights == init
    assert not any("lora_basis" in name for name in model.state_dict())


# ---- the hook, with packages that stand in for peft and loram ------------------------------------


@pytest.fixture
def stand_ins(tmp_path) -> Path:
    """A folder with a peft and a loram that only say that they were imported."""
    for name in ("peft", "loram"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"print('{name}', end=' ')\n")
    (tmp_path / "peft" / "__init__.py").write_text("print('peft', end=' ')\nLoraConfig = object\n")
    (tmp_path / "peft" / "part.py").write_text("")
    return tmp_path


def python(code: str, *folders: Path, env=None) -> subprocess.CompletedProcess[str]:
    base = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))} | (env or {})
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(None, base), capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import peft", "peft loram"),
        ("import peft, loram, peft", "peft loram"),
        ("from peft import LoraConfig", "peft loram"),
        ("import peft.part", "peft loram"),
        ("import importlib; importlib.import_module('peft')", "peft loram"),
        # Asking whether it is installed, as transformers, accelerate and TRL do first.
        ("import importlib.util as u; assert u.find_spec('peft'); import peft", "peft loram"),
        ("import json, decimal", ""),
        ("import importlib.util as u; assert u.find_spec('peft')", ""),
        ("import os, sys; os.execv(sys.executable, ['python', '-c', 'import peft'])", "peft loram"),
    ],
)
def test_loram_follows_every_import_of_peft(stand_ins, code, said):
    done = python(code, stand_ins)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", said)


def test_where_peft_is_missing_it_is_missing(tmp_path):
    """Also after the hook has looked: the error is Python's own."""
    code = "try: import peft\nexcept ImportError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sitecustomize\n" + code],  # -S: no site-packages
        env=environment(None, {"PYTHONPATH": str(tmp_path)}),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "No module named 'peft'\n", "")


def test_a_process_without_peft_pays_nothing(tmp_path):
    done = python("import sys; print({'torch', 'peft', 'loram'} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("count", [1, 2])
def test_an_existing_sitecustomize_is_run_too(stand_ins, tmp_path, count):
    """The first on the path, as without loram."""
    folders = [tmp_path / f"site{i}" for i in range(count)]
    for i, folder in enumerate(folders):
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"print('site{i}', end=' ')\n")
    done = python("import peft", *folders, stand_ins)
    assert (done.stdout.strip(), done.stderr) == ("site0 peft loram", "")


# ---- the real thing ------------------------------------------------------------------------------

SCRIPT = """
import json, multiprocessing, sys

def made(init):
    from peft import LoraConfig, get_peft_model
    from torch import nn
    asked = {} if init is None else {"init_lora_weights": init}
    config = LoraConfig(r=2, target_modules=["0"], **asked)
    model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
    basis = any("lora_basis" in name for name in model.state_dict())
    return [model.peft_config["default"].init_lora_weights, basis]

def child(queue):
    from transformers.utils import is_peft_available  # as its Trainer does before any import
    assert is_peft_available()
    queue.put(made("loram"))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    said = {"default": made(None), "explicit": made("gaussian"), "string": made("loram_residual")}
    process.join()
    said["spawned"] = None if queue.empty() else queue.get()
    print(json.dumps(said))
    sys.exit(3)
"""


def test_a_script_that_never_names_loram_and_its_children_know_it(tmp_path):
    """The whole way: the command, what it becomes, and the exit code of that."""
    file = tmp_path / "train.py"
    file.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "loram", "run", "--init", "loram", "--", sys.executable, file],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "default": ["loram", True],
        "explicit": ["gaussian", False],
        "string": ["loram_residual", True],
        "spawned": ["loram", True],
    }
