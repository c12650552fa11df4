"""Runs on tasks of the kind `labels`: any encoder or decoder with a new head, by every method."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score
from tiny import Killed, assert_same_run, kill_at, no_stage, rows
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from conftest import make_tokenizer
from loram.methods import METHODS
from loram.peft import LoramError
from loram.peft import attach as peft_attach
from loram.train import DivergedError, TrainSettings, run
from loram.train import minilm as minilm_wheel
from loram.train.job import Judgement
from loram.train.kinds import prepare
from loram.train.labelling import Labelling
from loram.train.matching import layer_starts
from loram.train.model import ModelError, load_classifier
from loram.train.rates import optimizer_of
from loram.train.run import silent

COUNT = 24


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """Folder of a BERT of width 32 with two layers and a pooler."""
    path = tmp_path_factory.mktemp("models") / "bert"
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 64
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def glue(tmp_path_factory) -> Path:
    """A folder with three tasks that a word decides: classes, classes of pairs, and scores."""
    path = tmp_path_factory.mktemp("glue")
    for split, first in (("train", 0), ("dev", COUNT)):
        lines: dict[str, list[dict[str, Any]]] = {"sst2": [], "mrpc": [], "stsb": []}
        for i in range(first, first + COUNT):
            word = ("eggs", "miles")[i % 2]
            lines["sst2"].append({"sentence": f"How many {word} are {i}?", "label": i % 2})
            pair = {"sentence1": f"How many {word}, {i}?", "sentence2": f"It is {i}. " * (i % 3)}
            lines["mrpc"].append(pair | {"label": i % 2})
            lines["stsb"].append(pair | {"score": 5.0 * (i % 2)})
        for name, made in lines.items():
            text = "".join(json.dumps(line) + "\n" for line in made)
            (path / f"{name}_{split}.jsonl").write_text(text)
    return path


def settings_of(model: Path, glue: Path, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        **{"task": "glue/sst2", "model": str(model), "data": str(glue), "rank": 4, "lr": 1e-2},
        **{"steps": 6, "save_every": 2, "warmup_steps": 1, "batch_size": 4, "dtype": "float32"},
        **{"dropout": 0.1, "max_length": 32, "validation_size": 6, "calibrate_on": 4},
    }
    return TrainSettings(**(values | changes))


@pytest.fixture(scope="module")
def done(tiny_bert, tiny_model, glue, tmp_path_factory):
    """Folder of a run, by model, method and other changes; each is made once."""
    made: dict[str, Path] = {}
    models = {"bert": tiny_bert, "llama": tiny_model}

    def get(model: str, method: str, **changes: Any) -> Path:
        key = f"{model} {method} {changes}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("done") / "out"
            run(settings_of(models[model], glue, method=method, **changes), made[key])
        return made[key]

    return get


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


QUICK: dict[str, Any] = {"steps": 3, "save_every": 0, "magnitudes_every": 0, "dropout": 0.0}


@pytest.mark.parametrize("name", ["lora", "pissa", "loram"])
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_a_rate_is_matched_from_where_the_run_then_starts(
    done, tiny_bert, tiny_model, glue, model, name
):
    """The layers of the classifier, its head left out, in the order of the log."""
    options = QUICK | {"target_modules": "all-linear"}
    settings = settings_of({"bert": tiny_bert, "llama": tiny_model}[model], glue, **options)
    found = layer_starts(settings.model_copy(update={"method": name})) or []
    logged = rows(done(model, name, **options) / "magnitudes.jsonl")[0]["layers"].values()
    assert len(found) == len(logged) > 4
    for start, (nu_A, nu_B, *_) in zip(found, logged, strict=True):
        assert (start.nu_A, start.nu_B) == pytest.approx((nu_A, nu_B), rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_every_method_trains_a_classifier_and_reloads(
    done, tiny_bert, tiny_model, glue, model, name
):
    quick = QUICK | {"calibrate_on": 4, "validation_size": 0}
    if model == "llama":
        quick |= {"target_modules": "q_proj,up_proj"}
    elif name == "eva":
        quick |= {"target_modules": "query,value"}  # the pooler is refused, below
    out = done(model, name, **quick)
    found = results(out)
    assert {*found["metrics"]["test"]} == {"loss", "accuracy"}
    assert found["metrics"]["before"] is found["metrics"]["validation"] is None
    assert (found["task"], found["metric"], found["better"]) == ("glue/sst2", "accuracy", "high")
    assert not (out / "before.json").exists()
    assert not (out / "answers.jsonl").exists()
    folder = {"bert": tiny_bert, "llama": tiny_model}[model]
    settings = settings_of(folder, glue, method=name, **quick)
    base, _ = load_classifier(str(folder), torch.float32, 2, seed=settings.seed)
    if name == "full":
        trained = AutoModelForSequenceClassification.from_pretrained(out / "model")
        assert found["update"] is None
    else:
        config = json.loads((out / "adapter" / "adapter_config.json").read_text())
        assert config["task_type"] == "SEQ_CLS"
        assert found["update"] > 0
        magnitudes = rows(out / "magnitudes.jsonl")
        assert [row["step"] for row in magnitudes] == [0, 3]
        layers = [each[2] for each in magnitudes[-1]["layers"].values()]
        mean = math.exp(math.fsum(map(math.log, layers)) / len(layers))
        assert found["update"] == pytest.approx(mean, rel=1e-4)
        names = {*magnitudes[0]["layers"]}
        assert not any("classifier" in each or "score" in each for each in names)
        if name != "eva":
            assert any("pooler" in each for each in names) == (model == "bert")
        saved = load_file(out / "adapter" / "adapter_model.safetensors")
        head = next(k for k in saved if k.endswith(("classifier.weight", "score.weight")))
        new = base.classifier if model == "bert" else base.score
        assert not torch.equal(saved[head], new.weight)
        trained = PeftModel.from_pretrained(base, out / "adapter")
    job = prepare(settings, torch.float32)
    again = job.judge(trained, "after", silent)
    assert again.metrics["loss"] == pytest.approx(found["metrics"]["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize("task", ["glue/sst2", "glue/mrpc", "glue/stsb"])
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_a_classifier_learns(tiny_bert, tiny_model, glue, tmp_path, model, task):
    folder = {"bert": tiny_bert, "llama": tiny_model}[model]
    settings = settings_of(folder, glue, task=task, **(QUICK | {"steps": 25, "batch_size": 8}))
    found = run(settings, tmp_path)
    losses = [row["loss"] for row in rows(tmp_path / "losses.jsonl")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    names = {"glue/sst2": "accuracy", "glue/mrpc": "accuracy f1", "glue/stsb": "pearson spearman"}
    for moment in ("validation", "test"):
        assert {*found["metrics"][moment]} == {"loss", *names[task].split()}


def test_the_judged_loss_and_metrics_are_over_all_examples(tiny_bert, glue):
    for task, error in (
        ("glue/mrpc", torch.nn.functional.cross_entropy),
        ("glue/stsb", lambda x, y: torch.nn.functional.mse_loss(x[:, 0], y.float())),
    ):
        job = prepare(settings_of(tiny_bert, glue, task=task), torch.float32)
        assert isinstance(job, Labelling)
        job.model.train()
        judged = job.judge(job.model, "after", silent)
        assert isinstance(judged, Judgement)
        assert job.model.training
        job.model.eval()
        tokens = job._judged["after"][""]
        logits = torch.cat(
            [job.model(input_ids=torch.tensor([x.input_ids])).logits for x in tokens]
        )
        logits = logits.detach()
        labels = torch.tensor([x.label for x in tokens])
        assert judged.metrics["loss"] == pytest.approx(float(error(logits, labels)), rel=1e-5)
        if task == "glue/mrpc":
            said = logits.argmax(1).tolist()
            assert judged.metrics["accuracy"] == accuracy_score(labels.tolist(), said)
        assert max(len(x.input_ids) for x in tokens) <= 32


@pytest.mark.parametrize("task", ["glue/mrpc", "glue/stsb"])
def test_accumulated_batches_are_one_large_batch(tiny_bert, glue, tmp_path, task):
    # Two batches of four are the eight examples of one of eight, in the Trainer's order.
    common = QUICK | {"task": task, "warmup_steps": 0}
    # BERT's own dropout is not switched off by ours.
    folder = tmp_path / "bert"
    model = BertModel.from_pretrained(tiny_bert)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    run(settings_of(folder, glue, **common, batch_size=8), tmp_path / "large")
    run(settings_of(folder, glue, **common, accumulate=2), tmp_path / "parts")
    large, parts = (rows(tmp_path / name / "losses.jsonl") for name in ("large", "parts"))
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in large], rel=1e-4)


# ---- heads and rates -----------------------------------------------------------------------------


def test_the_seed_decides_the_head_and_the_order_but_not_the_data(tiny_bert, glue):
    state = torch.get_rng_state()
    jobs = [prepare(settings_of(tiny_bert, glue, seed=s), torch.float32) for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    heads = [job.model.classifier.weight for job in jobs]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert jobs[0].train == jobs[2].train


@pytest.mark.parametrize(
    ("method", "changes", "rates"),
    [
        ("lora", {"head_lr": 3e-4}, {"A": 1e-2, "B": 1e-2, "head": 3e-4}),
        ("lora+", {}, {"A": 1e-2, "B": 4e-2, "head": 1e-2}),
        ("lora+", {"head_lr": 3e-4}, {"A": 1e-2, "B": 4e-2, "head": 3e-4}),
        ("full", {"head_lr": 3e-4}, {"body": 1e-2, "head": 3e-4}),
    ],
)
def test_the_head_has_a_rate_of_its_own(tiny_bert, glue, method, changes, rates):
    settings = settings_of(tiny_bert, glue, method=method, weight_decay=0.1, **changes)
    job = prepare(settings, torch.float32)
    model = job.model
    if method != "full":
        model, _ = peft_attach.attach(
            *(model, settings.row), rank=4, alpha=4, task_type=job.task_type, heads=job.heads
        )
    optimizer = optimizer_of(model, settings, job.heads)
    assert optimizer is not None
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, set[float]] = {}
    seen: list[int] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            sides = {"classifier": "head", "lora_A": "A", "lora_B": "B"}
            side = next((side for part, side in sides.items() if part in name), "body")
            found.setdefault(side, set()).add(group["lr"])
            seen.append(id(parameter))
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name
    assert {k: [*each] for k, each in found.items()} == {
        side: pytest.approx([rate]) for side, rate in rates.items()
    }
    trained = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(seen) == sorted(trained)


def test_a_bfloat16_base_has_a_float32_head(tiny_bert, glue, tmp_path):
    for method in ("lora", "full"):
        found = run(
            settings_of(tiny_bert, glue, method=method, dtype="bfloat16", **(QUICK)),
            tmp_path / method,
        )
        assert found["dtype"] == "bfloat16"
        assert math.isfinite(found["metrics"]["test"]["loss"])
    saved = load_file(tmp_path / "lora" / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for key, tensor in saved.items() if "classifier" in key} == {torch.float32}


# ---- the curve, kills, divergence ----------------------------------------------------------------

CURVE = {"judge_every": 2, "method": "loram"}


def test_validation_on_the_way_changes_nothing_and_is_written(done):
    plain, judged = done("bert", "loram"), done("bert", "loram", judge_every=2)
    assert not (plain / "curve.jsonl").exists()
    assert (plain / "losses.jsonl").read_text() == (judged / "losses.jsonl").read_text()
    assert results(plain)["metrics"] == results(judged)["metrics"]
    curve = rows(judged / "curve.jsonl")
    assert [line["step"] for line in curve] == [2, 4, 6]
    seconds = [line["seconds"] for line in curve]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert seconds[2] == pytest.approx(results(judged)["train_seconds"])
    assert curve[-1]["metrics"] == results(judged)["metrics"]["validation"]


KILLS = [
    [kill_at("training", 5)],
    [kill_at("training", 3), kill_at("training", 5)],
    [kill_at("judging after")],
]


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("method", ["loram", "pissa", "full"])
def test_a_killed_run_goes_on_and_ends_the_same(done, tiny_bert, glue, tmp_path, method, kills):
    settings = settings_of(tiny_bert, glue, method=method, judge_every=2)
    for kill in kills:
        with pytest.raises(Killed):
            run(settings, tmp_path / "out", stage=kill)
    with (tmp_path / "out" / "curve.jsonl").open("a") as file:
        file.write('{"step": 99')  # what a kill leaves of a line
    run(settings, tmp_path / "out")
    whole = done("bert", method, judge_every=2)
    got, expected = (rows(out / "curve.jsonl") for out in (tmp_path / "out", whole))
    assert [(line["step"], line["metrics"]) for line in got] == [
        (line["step"], line["metrics"]) for line in expected
    ]
    assert [line["seconds"] for line in got] == sorted(line["seconds"] for line in got)
    if method == "full":
        assert results(tmp_path / "out")["metrics"] == results(whole)["metrics"]
        return
    assert_same_run(tmp_path / "out", whole)


def test_a_run_that_keeps_nothing_leaves_its_numbers(done, tiny_bert, glue, tmp_path):
    changes = {"keep": "nothing", "save_every": 0, "method": "pissa"}
    found = run(settings_of(tiny_bert, glue, **changes), tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {
        *("settings.json", "losses.jsonl", "magnitudes.jsonl", "results.json"),
    }
    assert found["saved"] is found["saved_bytes"] is None
    whole = results(done("bert", "pissa"))
    assert (found["metrics"], found["update"]) == (whole["metrics"], whole["update"])


def test_divergence_is_marked_and_not_trained_again(tiny_bert, glue, tmp_path):
    settings = settings_of(tiny_bert, glue, lr=1e30, warmup_steps=0, max_grad_norm=0)
    with pytest.raises(DivergedError, match="diverged") as first:
        run(settings, tmp_path)
    assert 1 <= first.value.step <= 6
    assert not (tmp_path / "results.json").exists()
    with pytest.raises(DivergedError) as again:
        run(settings, tmp_path, stage=no_stage)
    assert (str(again.value), again.value.step) == (str(first.value), first.value.step)


def test_a_metric_that_is_not_finite_while_training_is_divergence(
    tiny_bert, glue, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        Labelling, "judge", lambda *args, **kwargs: Judgement({"accuracy": math.nan}, [])
    )
    with pytest.raises(DivergedError, match=r"validation accuracy is nan at step 2") as caught:
        run(settings_of(tiny_bert, glue, judge_every=2), tmp_path)
    assert caught.value.step == 2


def test_runs_in_one_process_do_not_know_of_each_other(done, tiny_bert, tiny_model, glue, tmp_path):
    """Whatever ran before: another method, another model, a run that died."""
    with pytest.raises(Killed):
        run(
            settings_of(tiny_bert, glue, method="lora-ga"),
            tmp_path / "dead",
            stage=kill_at("training", 2),
        )
    for model, method in ((tiny_model, "corda-ipm"), (tiny_bert, "loram"), (tiny_bert, "pissa")):
        run(settings_of(model, glue, method=method), tmp_path / f"{model.name} {method}")
    assert_same_run(tmp_path / f"{tiny_bert.name} loram", done("bert", "loram"))
    assert_same_run(tmp_path / f"{tiny_bert.name} pissa", done("bert", "pissa"))


# ---- refusals, MiniLM ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "glue/mrcp"}, "Did you mean glue/mrpc"),
        ({"prompt": "chat"}, "prompt.*only for tasks of text"),
        ({"answers": 3}, "answers.*only for tasks of text"),
        ({"task": "answers", "head_lr": 1e-3}, "head_lr.*only for tasks of labels"),
        ({"judge_every": 2, "validation_size": 0}, "judge_every.*validation_size"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(tiny_bert, glue, changes, message):
    with pytest.raises(ValidationError, match=r"(?s)" + message):
        settings_of(tiny_bert, glue, **changes)


def test_a_folder_without_a_model_is_refused_as_a_classifier(glue, tmp_path):
    with pytest.raises(ModelError, match="as a classifier"):
        prepare(settings_of(tmp_path, glue), torch.float32)


def test_eva_on_a_pooler_is_refused(tiny_bert, glue, tmp_path):
    """PEFT would read other numbers than its inputs, or go on for ever."""
    with pytest.raises(LoramError, match=r"EVA.*pooler\.dense.*target_modules"):
        run(settings_of(tiny_bert, glue, method="eva", **QUICK), tmp_path)


@pytest.mark.model
@pytest.mark.skipif(minilm_wheel.available() is not None, reason="the wheel is not installed")
def test_minilm_trains_a_few_steps(glue, tmp_path):
    settings = settings_of(Path("minilm"), glue, task="glue/mrpc", **QUICK, method="loram")
    found = run(settings, tmp_path)
    assert found["update"] > 0
    assert math.isfinite(found["metrics"]["test"]["loss"])
