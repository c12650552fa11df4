"""Loading the benchmarks from files and from the hub: splits, fields, and errors that say where."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from loram.tasks import commonsense, gsm8k, math_words
from loram.tasks import math as math_task
from loram.tasks.commonsense_hub import HUB
from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.programs import humaneval, mbpp
from loram.tasks.task import Choice, Example, Request


def write(file: Path, rows: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def examples(start: int, stop: int) -> list[Example]:
    return [Example(f"q{i}", f"#### {i}") for i in range(start, stop)]


def pairs(start: int, stop: int) -> list[dict]:
    return [each._asdict() for each in examples(start, stop)]


@pytest.fixture
def hub(monkeypatch):
    """A package `datasets` that has these splits, by (source, config)."""

    def install(sets: dict) -> None:
        def load_dataset(source, config=None, split=None):
            try:
                splits = sets[source, config]
            except KeyError:
                raise ValueError("no such set\nat all") from None
            return splits if split is None else splits[split]

        module = ModuleType("datasets")
        module.load_dataset = load_dataset  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


# ---- splits --------------------------------------------------------------------------------------


def test_splits_never_mix_and_depend_on_the_seed_of_the_data_alone():
    train, test = examples(0, 30), examples(25, 40)  # five are in both
    first = part(train, test, Request(validation_size=5, train_size=10), "here")
    again = part(train, test, Request(validation_size=5, train_size=10), "here")
    assert first == again
    assert not {*first.train} & {*first.validation}
    assert not {*first.train, *first.validation} & {*test}
    assert list(first.test) == test
    other = part(train, test, Request(validation_size=5, train_size=10, seed=1), "here")
    assert {*other.validation} != {*first.validation}
    larger = part(train, test, Request(validation_size=5, train_size=15), "here")
    assert larger.train[:10] == first.train
    assert larger.validation == first.validation
    fewer = part(train, test, Request(test_size=4), "here")
    assert {*fewer.test} < {*test}
    assert fewer.test == part(train, test, Request(test_size=6), "here").test[:4]
    assert len(fewer.train) == 25  # what is in test is not trained on, judged or not


def test_a_validation_of_its_own_is_kept_apart_whole():
    splits = part(
        examples(0, 20), examples(30, 40), Request(validation_size=2), "x",
        validation=examples(15, 20),
    )  # fmt: skip
    assert len(splits.validation) == 2
    assert {*splits.train} == {*examples(0, 15)}


@pytest.mark.parametrize(
    "request_", [Request(train_size=21), Request(validation_size=20), Request(test_size=11)]
)
def test_too_few_examples_are_counted(request_):
    with pytest.raises(DataError, match=r"here: expected .* got .*--validation-size"):
        part(examples(0, 20), examples(30, 40), request_, "here")


def test_nothing_to_judge_by_is_an_error():
    with pytest.raises(DataError, match="1 test examples, got 20, 0 and 0"):
        part(examples(0, 20), [], Request(), "here")


# ---- answers -------------------------------------------------------------------------------------


def test_gsm8k_from_a_folder_and_from_the_hub_is_the_same(tmp_path, hub):
    write(tmp_path / "train.jsonl", pairs(0, 9))
    write(tmp_path / "test.jsonl", pairs(9, 12))
    local = gsm8k.load(Request(source=str(tmp_path)))
    assert list(local.test) == examples(9, 12)
    hub({("openai/gsm8k", "main"): {"train": pairs(0, 9), "test": pairs(9, 12)}})
    assert gsm8k.load(Request()) == local


def test_metamath_can_be_trained_on(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps([{"query": "q", "response": "a"}]))
    write(tmp_path / "test.jsonl", pairs(9, 12))
    assert list(gsm8k.load(Request(source=str(tmp_path))).train) == [Example("q", "a")]


def test_an_answer_that_cannot_be_judged_is_named(tmp_path):
    write(tmp_path / "train.jsonl", pairs(0, 9))
    write(tmp_path / "test.jsonl", [*pairs(9, 12), {"question": "q", "answer": "five"}])
    with pytest.raises(DataError, match="test, row 4: expected an answer with #### n, got 'five'"):
        gsm8k.load(Request(source=str(tmp_path)))
    with pytest.raises(DataError, match=r"row 1: expected an answer with \\boxed"):
        math_task.load(Request(source=str(tmp_path)))


def test_math_reads_all_subjects_of_the_hub_or_one(hub):
    def rows(subject, n):
        return [{"problem": f"{subject}{i}", "solution": rf"\boxed{{{i}}}"} for i in range(n)]

    sets = {
        ("EleutherAI/hendrycks_math", subject): {"train": rows(subject, 3), "test": rows("t", 1)}
        for subject in math_task.SUBJECTS
    }
    hub(sets)
    assert len(math_task.load(Request()).train) == 21
    assert len(math_task.load(Request(config="geometry")).train) == 3
    with pytest.raises(DataError, match=r"the hub gave no such data set \(no such set\)"):
        math_task.load(Request(config="alchemy"))


def test_word_problems_are_judged_by_their_answers(tmp_path):
    train = {"instruction": "q", "input": "", "output": "1 + 1 = 2", "answer": "2.0"}
    write(tmp_path / "train.jsonl", [train, train | {"output": ""}])
    test = [
        {"instruction": "q1", "output": "so 3", "answer": "4.0"},
        {"instruction": "q2", "answer": "B"},
    ]
    write(tmp_path / "AQuA_test.jsonl", test)
    splits = math_words.load("AQuA", Request(source=str(tmp_path)))
    assert list(splits.test) == [Example("q1", "4.0"), Example("q2", "B")]
    assert list(splits.train) == [Example("q", "1 + 1 = 2")]
    with pytest.raises(DataError, match="expected SVAMP_test"):
        math_words.load("SVAMP", Request(source=str(tmp_path)))
    with pytest.raises(DataError, match="--data FOLDER"):
        math_words.load("SVAMP", Request())
    write(tmp_path / "SVAMP_test.jsonl", [{"instruction": "q", "answer": "four"}])
    with pytest.raises(DataError, match="row 1: expected a number or a letter"):
        math_words.load("SVAMP", Request(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("written", "reference", "right"),
    [
        ("The answer is 4.", "4.0", True),
        ("It is 1.8333", "1.8333333333333335", True),
        ("It is 1.84", "1.8333333333333335", False),
        ("1,023 in all", "1023", True),
        ("The answer is (A).", "A", True),
        ("A or B", "A", True),
        ("A or B", "B", False),
        ("Answer: C", "A", True),  # the script's quirk
        ("an apple", "A", False),
        ("4", "A", False),
        ("", "4", False),
    ],
)
def test_a_number_within_a_thousandth_or_the_first_letter(written, reference, right):
    assert math_words.word_match(written, reference) is right


@pytest.mark.parametrize(
    ("written", "right"),
    [("Answer: C", True), ("(C)", True), ("C, not D", False), ("Cats", False), ("", False)],
)
def test_the_last_letter_that_stands_alone(written, right):
    assert math_words.last_letter_match(written, "C") is right


GRADED = [
    ("6 * 3 = 18\n#### 18", True),
    ("#### 1,8", True),
    ("#### 18\n#### 19", True),
    ("#### 18.", False),
    ("#### 18.00", False),
    ("#### $18", False),
    ("####18", False),
    ("18", False),
    ("", False),
]


@pytest.mark.parametrize(("written", "right"), GRADED)
def test_gsm8k_is_graded_as_by_its_script(written, right):
    def script(text: str) -> str:
        """`extract_answer` of openai/grade-school-math, by its description."""
        match = re.compile(r"#### (\-?[0-9\.\,]+)").search(text)
        return match.group(1).strip().replace(",", "") if match else "[invalid]"

    reference = "3 * 6 = 18\n#### 18"
    assert gsm8k.official_match(written, reference) is right
    assert (script(written) == script(reference)) is right
    assert not gsm8k.official_match("no number", "none either")


# ---- choices -------------------------------------------------------------------------------------

ASKED = "Please choose: q{}\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer2"


def asked(start: int, stop: int) -> list[dict]:
    return [
        {"instruction": ASKED.format(i), "input": "", "answer": f"answer{1 + i % 2}"}
        for i in range(start, stop)
    ]


@pytest.mark.parametrize("train", ["piqa_train.jsonl", "train.jsonl", "commonsense_170k.json"])
def test_commonsense_from_a_folder(tmp_path, train):
    file = write(tmp_path / train, asked(0, 6))
    if train.endswith("json"):
        file.write_text(json.dumps(asked(0, 6)))
    write(tmp_path / "piqa_test.jsonl", asked(6, 9))
    splits = commonsense.load("piqa", Request(source=str(tmp_path), validation_size=2))
    assert (len(splits.train), len(splits.validation)) == (4, 2)
    options = ("the correct answer is answer1", "the correct answer is answer2")
    assert splits.test[0] == Choice(ASKED.format(6), options, 0)
    assert splits.test[1] == Choice(ASKED.format(7), options, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "What?", "answer": "a"}, "expected an instruction that ends with"),
        ({"instruction": ASKED, "answer": "answer3"}, "an answer out of .*answer2.*got 'answer3'"),
        ({"instruction": ASKED, "answer": ""}, "got ''"),
        ({"instruction": ASKED}, r"expected str in 'answer', got fields \['instruction'\]"),
        ({"instruction": 3, "answer": "a"}, "expected str in 'instruction', got int"),
    ],
)
def test_a_bad_question_is_named(row, message):
    with pytest.raises(DataError, match=f"here: .*{message}"):
        commonsense.choice(row, "here")


def test_missing_files_of_a_set_are_named(tmp_path):
    with pytest.raises(DataError, match="expected boolq_train or train or commonsense_170k"):
        commonsense.load("boolq", Request(source=str(tmp_path)))
    write(tmp_path / "train.jsonl", asked(0, 6))
    with pytest.raises(DataError, match="expected boolq_test"):
        commonsense.load("boolq", Request(source=str(tmp_path)))


# A row as the hub's data card shows it; the options it must come to, and the right one.
CHOICES = {"text": ["wind", "coal"], "label": ["A", "B"]}
OF_THE_HUB = {
    "boolq": ({"question": "is it", "passage": "p", "answer": False}, "true/false", "false"),
    "piqa": (
        {"goal": "g", "sol1": "a", "sol2": "b", "label": 1},
        "solution1/solution2",
        "solution2",
    ),
    "social_i_qa": (
        {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c",
         "label": "3"},
        "answer1/answer2/answer3", "answer3",
    ),
    "hellaswag": (
        {"activity_label": "Sport", "ctx": "he", "endings": ["a", "b", "c", "d"], "label": "0"},
        "ending1/ending2/ending3/ending4", "ending1",
    ),
    "winogrande": (
        {"sentence": "_ won", "option1": "a", "option2": "b", "answer": "2"},
        "option1/option2", "option2",
    ),
    "arc_easy": ({"question": "q", "choices": CHOICES, "answerKey": "B"}, "answer1/answer2",
                 "answer2"),
    "arc_challenge": (
        {"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "1"},
        "answer1/answer2", "answer1",
    ),
    "openbookqa": ({"question_stem": "q", "choices": CHOICES, "answerKey": "A"},
                   "answer1/answer2", "answer1"),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_sets_of_the_hub_come_to_the_same_format(hub, name):
    row, options, right = OF_THE_HUB[name]
    text = next(key for key in ("question", "goal", "context", "ctx", "sentence", "question_stem")
                if key in row)  # fmt: skip
    rows = [row | {text: f"{row[text]} {i}"} for i in range(4)]
    hub({(HUB[name].source, HUB[name].config): {"train": rows[:3], HUB[name].test: rows[3:]}})
    splits = commonsense.load(name, Request())
    (example,) = splits.test
    assert example.question.endswith(f"Answer format: {options}")
    assert example.options[example.right] == f"the correct answer is {right}"
    assert len(splits.train) == 3


def test_a_row_without_its_label_is_refused():
    row = HUB["winogrande"].row({"sentence": "_", "option1": "a", "option2": "b", "answer": ""})
    with pytest.raises(DataError, match="got ''"):
        commonsense.choice(row, "here")


TWO = Choice("q", ("short", "much longer"), 1)


@pytest.mark.parametrize(
    ("scores", "accuracy", "normed"),
    [
        ([-1.0, -0.5], 1.0, 1.0),
        ([-0.5, -1.0], 0.0, 1.0),  # per byte the longer one is likelier
        ([-1.0, -1.0], 0.5, 1.0),
        ([-0.1, -1.0], 0.0, 0.0),
        ([float("nan"), -1.0], 0.0, 0.0),
        ([float("-inf"), float("-inf")], 0.5, 0.5),
    ],
)
def test_the_likeliest_option_is_chosen_and_ties_are_shared(scores, accuracy, normed):
    assert commonsense.choice_scores([scores], [TWO]) == {
        "accuracy": accuracy,
        "accuracy_norm": normed,
    }


@pytest.mark.parametrize("scores", [[], [[1.0]], [[1.0, 2.0], [1.0, 2.0]]])
def test_scores_belong_to_their_questions(scores):
    with pytest.raises(ValueError, match="expected a likelihood for every option"):
        commonsense.choice_scores(scores, [TWO])
    with pytest.raises(ValueError, match="got 0 lists for 0 questions"):
        commonsense.choice_scores([], [])


# ---- programs ------------------------------------------------------------------------------------

HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def one():\n    """Return 1."""\n',
    "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}


def basic(task: int) -> dict:
    return {
        "task_id": task,
        "text": f"Write f{task}.",
        "code": f"def f{task}():\r\n  return {task}",
        "test_setup_code": "",
        "test_list": [f"assert f{task}() == {task}"],
    }


def test_humaneval_is_a_test_and_something_else_is_trained_on(tmp_path, hub):
    with pytest.raises(DataError, match="no training set: expected --data FOLDER"):
        humaneval.load(Request())
    write(tmp_path / "train.jsonl", [{"instruction": "i", "input": "", "output": "o"}])
    write(tmp_path / "HumanEval.jsonl", [HUMAN])
    splits = humaneval.load(Request(source=str(tmp_path)))
    assert list(splits.train) == [Example("i", "o")]
    (problem,) = splits.test
    assert problem.tests.endswith("check(one)")
    (tmp_path / "HumanEval.jsonl").unlink()
    hub({("openai/openai_humaneval", None): {"test": [HUMAN]}})
    assert humaneval.load(Request(source=str(tmp_path))) == splits


def test_humaneval_is_tuned_on_the_validation_problems_of_mbpp(tmp_path, hub):
    write(tmp_path / "train.jsonl", [{"instruction": "i", "input": "", "output": "o"}])
    write(tmp_path / "HumanEval.jsonl", [HUMAN])
    file = write(tmp_path / "mbpp.jsonl", [basic(task) for task in range(1, 975)])
    splits = humaneval.load(Request(source=str(tmp_path), validation_size=90))
    known = {mbpp.program(basic(task), "").question for task in range(511, 601)}
    assert {problem.question for problem in splits.validation} == known
    assert [problem.entry_point for problem in splits.test] == ["one"]
    file.unlink()
    hub(
        {
            ("openai/openai_humaneval", None): {},
            (mbpp.SOURCE, "full"): {"test": [], "validation": [basic(511)], "train": []},
        }
    )
    splits = humaneval.load(Request(source=str(tmp_path), validation_size=1))
    assert [problem.answer for problem in splits.validation] == ["def f511():\n  return 511"]
    with pytest.raises(DataError, match="expected 1 training, 2 validation"):
        humaneval.load(Request(source=str(tmp_path), validation_size=2))


def test_mbpp_has_the_splits_of_its_paper(tmp_path):
    file = write(tmp_path / "mbpp.jsonl", [basic(task) for task in range(1, 975)])
    splits = mbpp.load("full", Request(source=str(tmp_path), validation_size=90))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (374, 90, 500)
    assert splits.test[0].question.startswith("Write f11.\nYour code should pass these tests:")
    assert splits.test[0].answer == "def f11():\n  return 11"
    assert {each.question.split(".")[0] for each in splits.validation} == {
        f"Write f{task}" for task in range(511, 601)
    }
    assert mbpp.load("full", Request(source=str(file), validation_size=90)) == splits
    with pytest.raises(DataError, match=r"expected sanitized-mbpp\.jsonl"):
        mbpp.load("sanitized", Request(source=str(tmp_path)))


def test_a_checked_problem_may_import_for_its_tests():
    row = {"prompt": "p", "code": "c", "test_imports": ["import math"], "test_list": ["assert 1"]}
    assert mbpp.program(row, "here").tests == "import math\nassert 1"
    with pytest.raises(DataError, match="here: expected tests in 'test_list', got none"):
        mbpp.program(row | {"test_list": []}, "here")
    with pytest.raises(DataError, match="expected int in 'task_id', got str"):
        mbpp.need({"task_id": "1"}, "task_id", int, "here")


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has none"),
        (b"[", "line 1: expected a JSON object"),
        (b"[]", "has none"),
        (b"3", "row 1: expected an object, got int"),
        (b"[1]", "row 1: expected an object, got int"),
        (b'{"question": "q"}\n{', "line 2: expected a JSON object"),
        (b"\xff", "expected a UTF-8 JSONL file"),
        (b'{"question": "q"}', r"row 1: expected an object with .*got \['question'\]"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    (tmp_path / "train.json").write_bytes(content)
    write(tmp_path / "test.jsonl", pairs(0, 2))
    with pytest.raises(DataError, match=rf"(?s)train.*{message}"):
        gsm8k.load(Request(source=str(tmp_path)))


def test_a_folder_without_a_split_is_named(tmp_path):
    write(tmp_path / "train.jsonl", pairs(0, 2))
    with pytest.raises(DataError, match=r"with test\.jsonl, found \['train\.jsonl'\]"):
        gsm8k.load(Request(source=str(tmp_path)))


def test_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"loram\[hub\]"):
        gsm8k.load(Request())
