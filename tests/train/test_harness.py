"""lm-evaluation-harness as a judge: a task from files, against our own likelihoods."""

import json
import sys

import pytest
import torch

from loram.train.harness import HarnessError, judge_by_harness
from loram.train.model import load_pretrained

TASK = """
task: two_options
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{{{right}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def test_without_its_package_the_harness_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(HarnessError, match="pip install lm-eval"):
        judge_by_harness(None, None, ["arc_easy"])


@pytest.mark.filterwarnings("default")  # the harness's and its data library's own
def test_a_task_from_files_is_judged_as_by_hand(tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    model, tokenizer = load_pretrained(str(tiny_model), torch.float32)
    rows = [{"question": f"Is {i} more than 5?", "right": int(i <= 5)} for i in range(10)]
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "two.yaml").write_text(TASK.format(file=file))
    model.train()
    found = judge_by_harness(model, tokenizer, ["two_options"], folder=tmp_path)
    assert model.training
    model.eval()

    def likelihood(question: str, option: str) -> float:
        asked = tokenizer(question).input_ids
        ids = [*asked, *tokenizer(f" {option}").input_ids]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(scores[i - 1, ids[i]]) for i in range(len(asked), len(ids)))

    right = [
        likelihood(row["question"], ("yes", "no")[row["right"]])
        > likelihood(row["question"], ("no", "yes")[row["right"]])
        for row in rows
    ]
    assert found["two_options"]["acc,none"] == pytest.approx(sum(right) / len(right))
    with pytest.raises(HarnessError, match="got no_such_task"):
        judge_by_harness(model, tokenizer, ["no_such_task"], folder=tmp_path)
