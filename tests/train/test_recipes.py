"""Named settings of `loram train`."""

import json

import pytest
from typer.testing import CliRunner

from loram import cli
from loram.tasks.table import TASKS
from loram.train import TrainSettings
from loram.train.recipes import RECIPES, recipe


@pytest.mark.parametrize(("name", "kind"), RECIPES)
def test_a_recipe_is_settings_of_its_kind(name, kind):
    task = next(row.name for row in TASKS.values() if row.kind == kind)
    settings = TrainSettings(**recipe(name, task), task=task)
    assert settings.batch_size * settings.accumulate == 128


def test_an_unknown_recipe_says_which_there_are():
    with pytest.raises(ValueError, match="expected paper for answers, paper for images"):
        recipe("paper", "glue/mrpc")


def test_what_is_given_counts_more(monkeypatch, tmp_path):
    seen = []

    def run(settings, out, **_):
        seen.append(settings)
        return {}

    monkeypatch.setattr("loram.cli.training.run", run)
    command = ["train", "--task", "images", "--recipe", "paper", "--rank", "8", "--out"]
    done = CliRunner().invoke(cli.app, [*command, str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (settings,) = seen
    found = json.loads(settings.model_dump_json())
    assert (found["model"], found["rank"]) == ("llava-hf/llava-1.5-13b-hf", 8)
    assert (found["lr"], found["head_lr"], found["warmup_steps"]) == (2e-4, 2e-5, 154)
