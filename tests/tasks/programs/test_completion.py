"""pass@k against an exact oracle and by enumeration; programs cut out of what a model wrote."""

import json
import os
from fractions import Fraction
from itertools import combinations
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loram.tasks.programs.completion import assemble, provided
from loram.tasks.programs.humaneval import program
from loram.tasks.programs.passk import mean_pass_at_k, pass_at_k
from loram.tasks.programs.sandbox import Sandbox, SandboxError
from loram.tasks.task import Program

HEAD = 'import math\n\ndef root(x):\n    """Square root."""\n'
OPEN = Program(HEAD, "    return math.sqrt(x)\n", "assert root(4) == 2", "root")
WHOLE = Program("Write root.", "def root(x):\n    return x ** 0.5", "assert root(4) == 2", None)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_pass_at_k_is_the_share_of_draws_with_a_right_program(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            draws = [any(i < right for i in draw) for draw in combinations(range(n), k)]
            assert pass_at_k(n, right, k) == pytest.approx(sum(draws) / len(draws), abs=1e-15)


@given(st.integers(1, 10**4), st.data())
def test_pass_at_k_is_exact_for_large_numbers(n, data):
    right = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, min(n, 200)))
    exact = 1 - Fraction(comb(n - right, k), comb(n, k))
    assert pass_at_k(n, right, k) == float(exact)


def test_pass_at_1_is_the_share_of_right_programs():
    assert mean_pass_at_k([[True, False], [False, False], [True, True]], 1) == pytest.approx(0.5)
    assert mean_pass_at_k([[True], [False]], 1) == 0.5


@pytest.mark.parametrize(("n", "right", "k"), [(2, 3, 1), (2, -1, 1), (2, 1, 3), (2, 1, 0)])
def test_impossible_counts_are_refused(n, right, k):
    with pytest.raises(ValueError, match="expected 1 ≤ k ≤ n"):
        pass_at_k(n, right, k)
    with pytest.raises(ValueError, match="expected one problem"):
        mean_pass_at_k([], 1)


# Each is a right answer in one of the ways models write them.
BODY = "    return math.sqrt(x)"
FULL = "def root(x):\n    return math.sqrt(x)"
WRITTEN = {
    "the body": BODY,
    "the body and more": f"{BODY}\n\ndef other():\n    pass\nprint(root(2))",
    "the body and a test": f"{BODY}\n\nassert root(4) == 3",
    "the body, its first indent left out": "return math.sqrt(x)\n",
    "the body after an empty line": f"\n\n{BODY}",
    "the whole function": FULL,
    "the whole function in a fence": f"Sure!\n```python\n{FULL}\n```\nThat is it.",
    "a fence without a language": f"```\n{FULL}\n```",
    "a fence that is not closed": f"```python\n{FULL}",
    "a fence that is not closed, after words": f"Solution\n```python\n{FULL}",
    "a fence that only closes": f"{FULL}\n```",
    "a fence that only closes, and words": f"{FULL}\n```\nThis returns the root.\n",
    "a fence that only closes, and another": f"{FULL}\n```\nUse:\n```python\nroot(4)\n```",
    "the body and a fence that only closes": f"{BODY}\n```\n",
    "the body, a fence and words": f"{BODY}\n```\nThis returns the root.",
    "the body without its indent, a fence and words": "return math.sqrt(x)\n```\nIt is.\n",
    "the body in a fence": f"```python\n{BODY}\n```",
    "a helper first": f"def half(x):\n    return 0.5\n\n{FULL}",
    "a main part": f"{FULL}\n\nif __name__ == '__main__':\n    print(root(input()))",
    "the head again": f"{HEAD}{BODY}",
    "line ends of Windows": f"{BODY}\n\nx = 1".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_right_answer_makes_a_right_program(name):
    names: dict = {}
    exec(assemble(OPEN, WRITTEN[name]), names)
    assert names["root"](4) == 2


@pytest.mark.parametrize("name", [n for n in WRITTEN if "body" not in n and "Windows" not in n])
def test_a_whole_program_is_taken_as_it_is(name):
    names: dict = {}
    exec("import math\n" + assemble(WHOLE, WRITTEN[name]), names)
    assert names["root"](4) == 2


@pytest.mark.parametrize("problem", [OPEN, WHOLE])
def test_nothing_written_is_a_program_that_fails(problem):
    names: dict = {}
    try:
        exec(assemble(problem, ""), names)
        exec(problem.tests, names)
    except (AssertionError, NameError):
        return
    pytest.fail("nothing passed the tests")


def test_markers_of_mbpps_prompts_are_dropped():
    assert assemble(WHOLE, "[BEGIN]\nx = 1\n[DONE]\ny").strip() == "x = 1"


def test_what_a_solution_defines_is_provided():
    assert provided(OPEN) == {"root"}
    assert provided(Program("q", "class A:\n    pass\ndef sum(): pass", "", None)) == {"A", "sum"}
    assert provided(Program("q", "def (", "", None)) == frozenset()
    assert provided(Program("q", "def (", "", "f")) == {"f"}


PROBLEMS = {
    "a loop": (
        "from typing import List\n\n\ndef below_zero(moves: List[int]) -> bool:\n"
        '    """ Tell. """\n',
        "    total = 0\n    for each in moves:\n        total += each\n        if total < 0:\n"
        "            return True\n    return False\n",
        "def check(candidate):\n    assert candidate([1, -2]) == True\n"
        "    assert candidate([]) == False\n",
        "below_zero",
    ),
    "a helper in the head": (
        "def double(x):\n    return 2 * x\n\n\ndef undo(x):\n    '''Halve.'''\n",
        "    return x // 2\n",
        "def check(candidate):\n    assert all(candidate(double(i)) == i for i in range(9))\n",
        "undo",
    ),
    "a name of a built-in": (
        "def sum(a, b):\n    '''Add.'''\n",
        "    return a + b\n",
        "def check(candidate):\n    assert candidate(1, 2) == 3 == sum(2, 1)\n",
        "sum",
    ),
}


@pytest.fixture(scope="session")
def jail() -> Sandbox:
    try:
        return Sandbox(run_generated_code=True)
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.mark.parametrize("name", PROBLEMS)
def test_worked_solutions_pass_and_empty_ones_fail(jail, name):
    fields = ("prompt", "canonical_solution", "test", "entry_point")
    problem = program(dict(zip(fields, PROBLEMS[name], strict=True)), "here")
    for written, right in ((problem.answer, True), ("    return None\n", False)):
        verdict = jail.judge(assemble(problem, written), problem.tests, provides=provided(problem))
        assert verdict.passed is right, verdict


HUMANEVAL = os.environ.get("LORAM_HUMANEVAL", "")


@pytest.mark.skipif(not HUMANEVAL, reason="LORAM_HUMANEVAL does not name HumanEval.jsonl")
def test_all_canonical_solutions_of_humaneval_pass(jail):
    for line in Path(HUMANEVAL).read_text(encoding="utf-8").splitlines():
        problem = program(json.loads(line), HUMANEVAL)
        for written in (problem.answer, f"```python\n{problem.question}{problem.answer}\n```"):
            verdict = jail.judge(
                assemble(problem, written), problem.tests, provides=provided(problem)
            )
            assert verdict.passed, (problem.entry_point, verdict)
