"""A study's file: its form, and what is wrong with its runs, all at once."""

import pytest
import torch
from safetensors.torch import save_file
from study_fakes import VERSIONS, plan, spec

from loram.study import check
from loram.study.check import check_folder, problems
from loram.study.errors import StudyError
from loram.study.plan import Plan
from loram.study.settings import resolve
from loram.study.spec import dump, parse, read

TEXT = """
name: rates
base: {model: smollm2, steps: 100, validation_size: 64}
tasks: [answers, {task: answers, label: short, max_length: 64}]
methods: [lora, {method: loram, label: "LoRAM + RsLoRA", rslora: true}]
pairs: [[LoRAM + RsLoRA, lora]]
ranks: [8]
lrs: {low: 1e-5, high: 1e-2, per_decade: 4}
seeds: [0, 1, 2]
recipe: {lrs: [1e-4, 3e-4]}
"""


def test_a_study_is_read_with_numbers_as_people_write_them():
    study = parse(TEXT)
    assert study.lrs is not None
    assert (study.lrs.low, study.lrs.high) == (1e-5, 1e-2)
    assert study.recipe is not None
    assert study.recipe.lrs == (1e-4, 3e-4)
    assert study.tuning_seeds == study.seeds == (0, 1, 2)
    assert [each.label for each in study.tasks] == ["answers", "short"]
    assert [each.label for each in study.methods] == ["lora", "LoRAM + RsLoRA"]
    assert study.methods[1].settings == {"rslora": True}
    assert parse(TEXT.replace("pairs: [[LoRAM + RsLoRA, lora]]", "pairs:")).pairs == ()
    assert study.pairs == (("LoRAM + RsLoRA", "lora"),)


def test_what_is_dumped_reads_back_as_the_same_study():
    study = parse(TEXT)
    assert parse(dump(study)) == study


def test_settings_come_from_the_base_then_the_task_then_the_method():
    study = spec(
        base={"steps": 1, "batch_size": 1, "warmup_steps": 1, "dtype": "float32"},
        tasks=[{"task": "answers", "batch_size": 2, "warmup_steps": 2}],
        methods=[{"method": "loram", "warmup_steps": 3}],
    )
    settings = resolve(study, study.tasks[0], study.methods[0], rank=6, lr=0.5, seed=9)
    assert (settings.steps, settings.batch_size, settings.warmup_steps) == (1, 2, 3)
    assert (settings.method, settings.rank, settings.lr, settings.seed) == ("loram", 6, 0.5, 9)


def test_auto_dtype_is_settled_before_the_run():
    study = spec(base={"dtype": "auto"})
    settings = resolve(study, study.tasks[0], study.methods[0], rank=1, lr=1.0, seed=0)
    assert settings.dtype in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": []}, "tasks"),
        ({"methods": ["lora", "lora"]}, "'lora' stands twice"),
        ({"seeds": [0, 0]}, "each number once"),
        ({"seeds": [-1]}, "seeds"),
        ({"ranks": [0]}, "ranks"),
        ({"lrs": {"low": 2e-5, "high": 2.1e-5, "per_decade": 1}}, "there is none"),
        ({"lrs": {"low": 0, "high": 1}}, "lrs.low"),
        ({"lrs": None}, "there is no learning rate"),
        ({"recipe": {"lrs": [float("nan")]}}, "recipe"),
        ({"methods": [3]}, "expected a name"),
        ({"unknown": 1}, "unknown"),
        ({"extend": -1}, "extend"),
        ({"pairs": [["lora", "pisa"]]}, "there is no 'pisa' among lora, loram"),
        ({"pairs": [["lora", "lora"]]}, "stands beside itself"),
        ({"pairs": [["lora", "loram"], ["loram", "lora"]]}, "each pair once"),
        ({"pairs": [["lora"]]}, "pairs"),
    ],
)
def test_a_malformed_study_is_refused(changes, message):
    import yaml

    values = yaml.safe_load(dump(spec())) | changes
    with pytest.raises(StudyError, match=message):
        parse(yaml.safe_dump(values))


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "\tx"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(StudyError, match="expected"):
        parse(text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"no\.yaml"):
        read(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="expected a YAML file"):
        read(tmp_path / "binary.yaml")


def test_every_problem_of_every_run_is_said_once_and_at_once():
    study = spec(
        base={"stepz": 3, "batch_size": 0, "lr": 1e-3, "validation_size": 4},
        tasks=["answers", {"task": "answers", "label": "gone", "data": "./not/there"}],
        methods=["lora", "lorax", {"method": "full", "lr_ratio": 2.0}],
    )
    lines = problems(study)
    text = "\n".join(lines)
    assert "base, lr: the study sets it: give it in lrs or recipe" in text
    assert text.count("stepz: there is no such setting; did you mean steps") == 1
    assert text.count("batch_size: ") == 1
    assert "task gone, data: there is no ./not/there" in text
    assert "method lorax, method: unknown method 'lorax'. Did you mean lora" in text
    assert "method full, lr_ratio: full fine-tuning has no factors" in text
    assert len(lines) == 6
    with pytest.raises(StudyError) as raised:
        Plan(study, VERSIONS)
    assert all(line in str(raised.value) for line in lines)


def test_one_run_under_two_labels_is_refused():
    methods = ["loram", {"method": "loram", "label": "plain", "rslora": False}]
    with pytest.raises(StudyError, match="method plain: the same runs as task answers with method"):
        plan(methods=methods)
    tasks = ["answers", {"task": "answers", "label": "more often", "save_every": 3}]
    with pytest.raises(StudyError, match=r"(?s)task more often with method lora:.*method loram:"):
        plan(tasks=tasks)
    plan(methods=["loram", {"method": "loram", "label": "scaled", "rslora": True}])


def test_results_may_not_lie_among_the_data(tmp_path, sums):
    base = {"model": "none", "data": str(sums), "validation_size": 4, "held_out_size": 4}
    made = spec(base=base)
    check_folder(made, tmp_path / "apart")
    for inside in (sums, sums / "runs"):
        with pytest.raises(StudyError, match=r"apart from what runs read, got .* in `data: "):
            check_folder(made, inside)


def test_tuning_needs_validation_examples_and_fixed_rates_do_not():
    assert any("validation_size" in line for line in problems(spec(base={})))
    assert problems(spec(base={}, lrs=None, recipe={"lrs": [1e-3]})) == []


def test_layers_that_a_model_here_does_not_have_are_named(tmp_path):
    save_file(
        {"model.layers.0.self_attn.q_proj.weight": torch.ones(8, 8)}, tmp_path / "m.safetensors"
    )
    base = {"model": str(tmp_path), "validation_size": 4}
    assert problems(spec(base=base | {"target_modules": "q_proj, self_attn.q_proj"})) == []
    (line,) = problems(spec(base=base | {"target_modules": "q_proj,q_prj"}))
    assert line.endswith(
        f"target_modules: no layer of {tmp_path} is called 'q_prj': there are q_proj"
    )
    (tmp_path / "m.safetensors").write_bytes(b"cut")
    check._layers.cache_clear()
    (line,) = problems(spec(base=base | {"target_modules": "q_proj"}))
    assert "not a whole safetensors file" in line


def test_an_embedded_model_without_its_wheel_is_a_problem(monkeypatch):
    monkeypatch.setattr("loram.train.minilm.available", lambda: "install it")
    (line,) = problems(spec(base={"model": "minilm", "validation_size": 4}))
    assert line == "model: install it"


@pytest.mark.parametrize(
    "launch", ["accelerate launch --num_processes 4", "torchrun --nproc-per-node=4"]
)
def test_a_batch_that_the_processes_of_a_launcher_can_not_share(launch):
    base = {"model": "none", "validation_size": 4}
    assert problems(spec(base=base | {"batch_size": 8}, launch=launch)) == []
    (line,) = problems(spec(base=base | {"batch_size": 6}, launch=launch))
    assert line == "batch_size: expected a multiple of the 4 processes of `launch`, got 6"
    assert problems(spec(base=base | {"batch_size": 6}, launch="accelerate launch")) == []


def test_a_launcher_that_is_not_here_is_a_problem():
    base = {"model": "none", "validation_size": 4}
    (line,) = problems(spec(base=base, launch="no-such-launcher --x"))
    assert line.startswith("launch: there is no command 'no-such-launcher' here: expected")
    (line,) = problems(spec(base=base, launch="torchrun 'x"))
    assert line.startswith("launch: No closing quotation")


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        (
            "humaneval",
            {"run_generated_code": True},
            "humaneval has no training set: expected --data FOLDER",
        ),
        ("math_word/svamp", {}, "expected --data FOLDER with SVAMP_test.jsonl"),
        ("answers", {"data": "runs/not/there"}, "there is no runs/not/there"),
        ("answers", {"data": "nope.csv"}, "there is no nope.csv"),
        ("glue/cola", {"data": "HERE"}, "line 1: expected an object with sentence, and label"),
        ("answers", {"data": "HERE", "train_size": 10**6}, "ask for fewer"),
    ],
)
def test_data_that_a_run_could_not_read_is_a_problem(sums, task, settings, said):
    given = {key: str(sums) if value == "HERE" else value for key, value in settings.items()}
    base = {"model": "none", "held_out_size": 4, "validation_size": 4}
    lines = problems(spec(base=base, tasks=[{"task": task, **given}]))
    assert len(lines) == 1
    assert "data: " in lines[0]
    assert said in lines[0]


def test_data_that_a_run_can_read_and_names_of_the_hub_are_none(sums):
    base = {"model": "none", "held_out_size": 4, "validation_size": 4}
    tasks = ["answers", "gsm8k", {"task": "answers", "label": "own", "data": str(sums)}]
    hub = {"task": "answers", "label": "hub", "data": "someone/some.data"}
    assert problems(spec(base=base, tasks=[*tasks, hub])) == []


def test_a_rank_above_a_layer_is_a_problem_of_methods_that_start_from_weights(tmp_path):
    weights = {
        "layers.0.q_proj.weight": torch.ones(6, 6),
        "layers.0.k_proj.weight": torch.ones(2, 6),
        "layers.0.norm.weight": torch.ones(6),
    }
    save_file(weights, tmp_path / "m.safetensors")
    base = {"model": str(tmp_path), "validation_size": 4, "target_modules": "q_proj,k_proj"}
    study = spec(base=base, methods=["lora", "loram", "pissa"], ranks=[2, 4])
    (line,) = problems(study)
    said = "method loram, pissa, ranks: expected at most 2, the smaller side of k_proj, got 4"
    assert line == said
    only = base | {"target_modules": "q_proj"}
    assert problems(spec(base=only, methods=["loram"], ranks=[2, 6])) == []
    assert problems(spec(base=base, methods=["lora"], ranks=[4])) == []
    (line,) = problems(spec(base=base, methods=["loram(gain=0.5, basis=etf)"], ranks=[4]))
    assert "expected at most 2" in line


def test_shapes_of_packed_weights_and_of_a_head_of_the_same_name_say_nothing(tmp_path):
    weights = {
        "layers.0.q_proj.weight": torch.ones(18, 1, dtype=torch.uint8),
        "layers.0.out_proj.weight": torch.ones(6, 6),
        "layers.1.out_proj.weight": torch.ones(6, 6),
        "head.out_proj.weight": torch.ones(2, 6),
    }
    save_file(weights, tmp_path / "m.safetensors")
    base = {"model": str(tmp_path), "validation_size": 4, "target_modules": "q_proj,out_proj"}
    assert problems(spec(base=base, methods=["loram"], ranks=[4])) == []


def test_a_key_that_comes_twice_and_a_date_that_is_none_are_no_yaml():
    with pytest.raises(StudyError, match="found 'ranks' twice"):
        parse(TEXT + "ranks: [16]\n")
    with pytest.raises(StudyError, match="expected YAML"):
        parse(TEXT.replace("name: rates", "name: 2024-99-99"))
    merged = "x: &x {a: 1}\ny: {b: {c: &c {<<: *x, a: 2}}}\nz: {<<: *c}\n"
    with pytest.raises(StudyError, match=r"\n  x: .*\n  y: .*\n  z: "):  # YAML, but no study
        parse(TEXT + merged)


def test_a_problem_of_one_pair_names_the_pair():
    study = spec(tasks=["answers", {"task": "answers", "label": "b", "rslora": "maybe"}])
    study = study.model_copy(
        update={
            "methods": (
                study.methods[0],
                spec(methods=[{"method": "loram", "rslora": True}]).methods[0],
            )
        }
    )
    (line,) = problems(study)
    assert line.startswith("task b, method lora, rslora: ")
