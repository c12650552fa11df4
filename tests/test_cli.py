"""The `loram` command: its help, its errors, and its verbs from end to end."""

import json
import os
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import loram
from loram import cli
from loram.cli import training
from loram.train import TrainSettings
from loram.vision.settings import DreamBoothSettings

VERBS = {
    "train": [
        *("--out", "--baseline"),
        *("--" + name.replace("_", "-") for name in TrainSettings.model_fields),
    ],
    "diagnose": ["--rank", "--spectrum", "--everything", "--out"],
    "init": ["--out", "--rank", "--alpha", "--rslora", "--init", "--target-modules", "--dtype"],
    "export": ["--rank", "--merge", "--base", "--dtype"],
    "demo": ["--out", "--steps", "--lr", "--seed"],
    "methods": ["--markdown"],
    "tasks": ["--markdown"],
    "compare": ["--out", "--dry-run", "--workers", "--engine", "--limit-hours"],
    "report": ["--out", "--reference", "--target"],
    "dreambooth": [
        "--out",
        *("--" + name.replace("_", "-") for name in DreamBoothSettings.model_fields),
    ],
    "equivalents": ["--rank", "--alpha", "--lr", "--match", "--to", "--model", "--steps"],
    "figures": ["--out", "--steps", "--seed"],
    "bench": ["--all", "--json", "--rounds", "--shape", "--only", "--slow", "--quick", "--out"],
    "env": [],
    "run": ["--init"],
}


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs `main()` on these words; returns (exit code, standard output, standard error)."""

    def run(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loram", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run


def flat(text: str) -> str:
    """Without the box and the line breaks that rich draws an error with."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def assert_mistake(done: tuple[int, str, str], *messages: str) -> None:
    """Exit code 2, each message, and no traceback."""
    code, out, err = done
    assert code == 2, err
    assert "Traceback" not in out + err
    for message in messages:
        assert re.search(message, flat(err)), err


@pytest.fixture
def tiny(tiny_model, sums):
    """Words of a tiny `loram train`."""
    return [
        *("train", "--model", tiny_model, "--data", sums, "--rank", 4, "--steps", 3),
        *("--batch-size", 2, "--held-out-size", 4, "--answers", 2, "--max-new-tokens", 3),
        *("--dtype", "float32", "--lr", "1e-2", "--alpha", 8, "--train-size", 20),
    ]


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory) -> Path:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", init_lora_weights="loram")
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("adapters") / "raw"
    model.save_pretrained(path)
    return path


# ---- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("ask", ["--help", "-h"])
def test_help_names_every_option(verb, ask):
    done = CliRunner().invoke(cli.app, [verb, ask], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    for option in [*VERBS[verb], "--help"]:
        assert option in done.output.split(), option


def test_init_makes_an_adapter_that_trains_on_from_a_checkpoint_alone(
    command, tiny_model, tmp_path
):
    out = tmp_path / "adapter"
    words = ["init", tiny_model, "--rank", 4, "--alpha", 8, "--rslora", "--out", out]
    code, printed, err = command(*words, "--init", "loram(gain=0.2)")
    assert code == 0, err
    assert "14 layers" in flat(printed)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 8, True)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(out))
    assert model.peft_config["default"].init_lora_weights == "loram(gain=0.2)"
    assert_mistake(command(*words), "exists already")
    words[-1] = tmp_path / "other"
    assert_mistake(command(*words, "--init", "loram_residual"), "rewrites the base weights")
    assert_mistake(command(*words, "--init", "loram(gian=1)"), "unknown option")
    assert_mistake(command("init", tmp_path / "none", "--out", out / "x"), "no such file or folder")
    assert not (tmp_path / "other").exists()


def test_help_of_the_command_names_every_verb():
    done = CliRunner().invoke(cli.app, ["--help"])
    assert done.exit_code == 0
    assert all(verb in done.output for verb in [*VERBS, "--version"])
    verbs = {info.name or info.callback.__name__ for info in cli.app.registered_commands}
    assert verbs == VERBS.keys()


def test_help_of_train_shows_defaults_choices_and_types_for_people():
    output = CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "200"}).output
    text = flat(output)
    for name, field in TrainSettings.model_fields.items():
        assert field.description.split(",")[0] in text, name
        if field.default not in (None, False):
            assert f"[default: {field.default}]" in text, name
    assert "cosine|linear|constant" in text
    assert not re.findall(r"\S*(?:Annotated|FieldInfo|NoneType)\S*", text)


def test_version(command):
    assert command("--version") == (0, f"loram {loram.__version__}\n", "")


def test_version_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["loram", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("loram", run_name="__main__")
    assert (end.value.code, capsys.readouterr().out) == (0, f"loram {loram.__version__}\n")


def test_without_words_the_help_is_shown(command):
    _, out, err = command()
    assert "train" in out + err
    assert "Traceback" not in out + err


# ---- train ---------------------------------------------------------------------------------------


def test_train_from_end_to_end_and_read_again(command, tiny, tmp_path):
    code, out, err = command(*tiny, "--out", tmp_path / "out")
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["settings"]["alpha"], results["settings"]["train_size"]) == (8.0, 20)
    metrics = results["metrics"]
    assert f"{metrics['before']['loss']:.4f} → {metrics['test']['loss']:.4f}" in out
    assert "exact match" in out
    assert str(tmp_path / "out" / "adapter") in out
    for stage in ("reading", "held-out loss before (4)", "answers before (2)", "training (3)"):
        assert stage in out
    code, again, _ = command(*tiny, "--out", tmp_path / "out")
    assert code == 0
    assert "training (3)" not in again
    assert again.strip().splitlines()[-1] == out.strip().splitlines()[-1]
    baseline = ["--baseline", tmp_path / "out", "--method", "lora", "--answers", 2]
    code, third, err = command(*tiny, "--out", tmp_path / "other", *baseline)
    assert code == 0, err
    assert "before" not in third
    assert_mistake(
        command(*tiny, "--out", tmp_path / "out", "--seed", 3), r"other settings \(seed\)"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "no/such"], "can't load the name 'no/such'"),
        (["--data", "no/such"], "'no/such' is not an existing path"),
        (["--method", "loram(gain=oops)"], "--method: .*gain=oops is not one of"),
        (["--method", "foo"], "foo"),
        (["--method", "pisa"], "Did you mean pissa"),
        (["--dtype", "int8"], "int8"),
        (["--steps", "many"], "--steps"),
        (["--target-modules", "no_proj"], "no_proj"),
        (["--rank", "4096"], "min.* got r = 4096"),
        (["--rank", "1"], "loram.*r"),
        (["--prompt", "chat"], "no chat template"),
        (["--max-length", "3"], "raise --max-length"),
        (["--held-out-size", "4000"], "ask for fewer"),
        (["--data", "wordmath", "--train-size", "4", "--held-out-size", "10000000"], "at most"),
        (["--baseline", "no/such"], "baseline no/such"),
        (["--learning-rate", "1"], "No such option"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    command, tiny, tmp_path, monkeypatch, words, message
):
    if "10000000" in words:  # writing as many as there are takes a minute

        def generate(*args, **kwargs):
            raise ValueError("expected a size that can be filled: ask for at most 9")

        monkeypatch.setattr("loram.tasks.wordmath.generate", generate)
    assert_mistake(command(*tiny, "--out", tmp_path / "out", *words), message)


def test_all_bad_values_are_reported_at_once(command, tiny, tmp_path):
    bad = {"--rank": 0, "--lr": -1, "--dropout": 2, "--method": "loram(x=1)", "--batch-size": 0}
    bad |= {"--alpha": -1, "--train-size": 0}
    words = [word for pair in bad.items() for word in pair]
    done = command(*tiny, "--out", tmp_path / "out", *words)
    assert_mistake(done, *(re.escape(f"loram: {name}: ") for name in bad))
    assert done[2].count("loram: --") == len(bad)
    assert not (tmp_path / "out").exists()


def test_train_needs_a_place(command, tiny):
    assert_mistake(command(*tiny), "Missing option '--out'")


def test_an_interrupted_run_says_that_it_can_go_on(command, monkeypatch, tiny, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run", interrupt)
    code, out, err = command(*tiny, "--out", tmp_path / "out")
    assert code == 130
    assert "interrupted; the same command goes on from the last checkpoint" in out + err
    assert "Traceback" not in err


def test_a_bug_has_a_traceback_and_exit_code_1(command, monkeypatch, tiny, tmp_path):
    def bug(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(training, "run", bug)
    with pytest.raises(ZeroDivisionError):
        command(*tiny, "--out", tmp_path / "out")


# ---- export --------------------------------------------------------------------------------------


def test_export_plain(command, adapter, tmp_path):
    code, out, err = command("export", adapter, tmp_path / "plain")
    assert code == 0, err
    assert "plain LoRA of rank 6, 14 layers" in out
    assert "relative error 0 " in out
    code, out, err = command("export", adapter, tmp_path / "small", "--rank", 2)
    assert code == 0, err
    assert re.search(r"relative error 0\.\d+ of the whole update; worst layer .*proj 0\.\d+", out)
    assert_mistake(command("export", adapter, tmp_path / "small"), "small exists already")


def test_export_merged(command, adapter, tiny_model, tmp_path):
    code, out, err = command("export", adapter, tmp_path / "full", "--merge")
    assert code == 0, err
    assert f"full weights in {tmp_path / 'full'}" in out
    expected = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), adapter
    ).merge_and_unload()
    full = load_file(tmp_path / "full" / "model.safetensors")
    for name, tensor in full.items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert len(AutoTokenizer.from_pretrained(tmp_path / "full")) == len(
        AutoTokenizer.from_pretrained(tiny_model)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{raw}", "{out}", "--rank", 0], "--rank"),
        (["{raw}", "{out}", "--rank", 2, "--merge"], "exclude each other"),
        (["{raw}", "{out}", "--merge", "--base", "no/such"], "can't load the name 'no/such'"),
        (["{raw}", "{out}", "--merge", "--dtype", "int8"], "unknown dtype 'int8'"),
        (["no/such", "{out}"], "no readable adapter at 'no/such'"),
        (["no/such", "{out}", "--merge"], "no readable adapter at 'no/such'"),
        (["{raw}", "{raw}"], "exists already"),
        (["{raw}", "{raw}/adapter_config.json/below"], "name a new folder"),
        (["{raw}"], "(?i)Missing argument 'out'"),
    ],
)
def test_a_mistake_in_an_export_is_one_message(command, adapter, tmp_path, words, message):
    filled = [str(w).format(raw=adapter, out=tmp_path / "out") for w in words]
    assert_mistake(command("export", *filled), message)
    assert not (tmp_path / "out").exists()


def test_a_merge_into_a_taken_folder_is_refused_before_the_model_is_loaded(
    command, adapter, monkeypatch
):
    monkeypatch.setattr(training, "load_pretrained", lambda *a: pytest.fail("the model was loaded"))
    assert_mistake(command("export", adapter, adapter, "--merge"), "exists already")


# ---- env, run, demo ------------------------------------------------------------------------------


def test_env(command):
    code, out, _ = command("env")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert loram.__version__ in lines["loram"]
    assert torch.__version__ in lines["torch"]
    assert {"python", "transformers", "peft", "accelerate", "CPU", "GPU", "dtype", "model"} <= set(
        lines
    )


@pytest.fixture
def executed(monkeypatch):
    """What `loram run` would have become."""
    calls = []

    def execve(program, words, env):
        calls.append(SimpleNamespace(program=program, words=words, env=env))
        raise SystemExit(0)

    monkeypatch.setattr("os.execve", execve)
    # A machine need not have a `python` of its own; ours is there.
    here = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([here, os.environ["PATH"]]))
    return calls


@pytest.mark.parametrize("init", [[], ["--init", "loram(gain=0.5)"]])
def test_run_becomes_the_command(command, executed, init):
    words = ["python", "-c", "pass", "--init", "not-ours", "--help", "-x"]
    command("run", *init, "--", *words)
    (call,) = executed
    assert Path(call.program).is_absolute()
    assert call.words == words
    assert call.env.get("LORAM_INIT") == (init[1] if init else None)
    assert "hooks" in call.env["PYTHONPATH"]


@pytest.mark.parametrize("given", [["--init", "x"], ["--help"], ["-h"], ["--unknown", "-v"]])
def test_options_after_the_command_are_the_commands_own(command, executed, given):
    """Also where the `--` was forgotten."""
    command("run", "python", "train.py", *given)
    assert [call.words for call in executed] == [["python", "train.py", *given]]
    assert "LORAM_INIT" not in executed[0].env


def test_run_of_a_command_that_is_not_there(command):
    code, out, err = command("run", "--", "no-such-command-anywhere")
    assert code == 127
    assert "command not found: no-such-command-anywhere" in out + err


@pytest.mark.parametrize("init", ["bad", "loram(gain=oops)", "pissa", "lora"])
def test_run_with_a_bad_init(command, init):
    assert_mistake(command("run", "--init", init, "--", "python"), re.escape(init))


def test_run_of_a_file_that_cannot_be_executed(command, tmp_path):
    """Executable by its mode, and nothing that the system can run."""
    file = tmp_path / "train.sh"
    file.write_bytes(b"\x00\x01\x02")
    file.chmod(0o755)
    code, out, err = command("run", "--", file)
    assert code == 126
    assert "Traceback" not in out + err


def test_demo_takes_its_settings(command, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("loram.demo.demo", lambda out, **settings: calls.append((out, settings)))
    code, _, err = command("demo", "--out", tmp_path, "--steps", 5, "--lr", "1e-3", "--seed", 2)
    assert code == 0, err
    ((out, settings),) = calls
    del settings["console"]
    assert (out, settings) == (tmp_path, {"steps": 5, "lr": 1e-3, "seed": 2})
    assert_mistake(command("demo", "--steps", 0), "--steps")


def test_a_demo_whose_run_failed_says_so(command, monkeypatch, tmp_path):
    monkeypatch.setattr("subprocess.run", lambda *a, **k: SimpleNamespace(returncode=2))
    pytest.importorskip("matplotlib")
    assert_mistake(command("demo", "--out", tmp_path), "the LoRA run ended with exit code 2")


def test_a_prompt_without_its_token_is_a_mistake_of_the_token(command, tmp_path):
    words = ("dreambooth", "--images", "x", "--prompt", "a dog", "--out", tmp_path / "run")
    assert_mistake(command(*words), r"--token: the prompt 'a dog' lacks the token.*got 'sks'")
