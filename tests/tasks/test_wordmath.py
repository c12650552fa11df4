"""Word problems: annotations right, English clean, splits apart, draws repeatable."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from fractions import Fraction
from typing import cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.tasks import wordmath
from loram.tasks._wordmath.core import Draw, calc, cents, dollars
from loram.tasks._wordmath.words import (
    TEST_PEOPLE,
    TRAIN_PEOPLE,
    a,
    cap,
    clock,
    duration,
    plural,
    qty,
)
from loram.tasks.wordmath import TEMPLATES, Problem, Split, Template, Theme, generate

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CALCULATION = re.compile(r"([-+*/(). \d]+) = (\$?)<<([^=<>]+)=([\d.]+)>>(\d+(?:\.\d+)?)")
UNITS = "hour|minute|mile|meter|year|page|lap|gallon|cent|day|week|box|van|seat|person|child|foot"


def value(expression: str) -> Fraction:
    """Evaluate by a way of its own: a stack over the syntax tree's postfix order."""
    source = expression.strip()
    stack: list[Fraction] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.BinOp):
            visit(node.left)
            visit(node.right)
            right, left = stack.pop(), stack.pop()
            if isinstance(node.op, ast.Div):
                stack.append(left / right)
            else:
                signs = {"Add": left + right, "Sub": left - right, "Mult": left * right}
                stack.append(signs[type(node.op).__name__])
        else:
            text = ast.get_source_segment(source, node)
            assert text is not None
            stack.append(Fraction(text))

    visit(ast.parse(source, mode="eval").body)
    return stack.pop()


def check_answer(answer: str) -> None:
    *lines, last = answer.split("\n")
    result = re.fullmatch(r"#### (\d+)", last)
    assert result, last
    assert 2 <= len(lines) <= 5
    found: list[str] = []
    for line in lines:
        matches = CALCULATION.findall(line)
        assert len(matches) == line.count("<<") == line.count(">>") >= 1, line
        for shown, sign, expression, inside, after in matches:
            assert shown.replace(" ", "") == expression
            assert value(expression) == Fraction(inside)
            assert inside == after
            if sign and "." in after:
                assert re.fullmatch(r"\d+\.\d\d", after)
            found.append(after)
        assert line.endswith("."), line
    assert found[-1] == result[1]


def check_english(text: str) -> None:
    assert "  " not in text
    assert not re.search(r" [.,?]|\.\.|,,|\{|\}|None|Calc|Fraction", text)
    assert not re.search(r"(?<![\d.$])\b1 (?!less\b)[a-z]+s\b", text)
    assert not re.search(r"\b1 (people|children|feet|more \w+s)\b", text)
    assert not re.search(rf"(?<!\d)(?:[02-9]|\d\d+) (?:{UNITS})\b", text)
    assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text)
    assert not re.search(r"\$\d+\.(00|\d)\b", text)
    assert not re.search(r"(?:^|[^\d) ]) ?-\d", text)
    assert all(0 <= float(n) <= 10_000 for n in re.findall(r"\d+(?:\.\d+)?", text))


def check_people(problem: Problem) -> None:
    words = set(re.findall(r"[A-Za-z]+", problem.question + " " + problem.answer))
    named = [person for person in (*TRAIN_PEOPLE, *TEST_PEOPLE) if person.name in words]
    if len(named) == 1 and problem.template != "parent":  # whose mother or uncle has a pronoun too
        other = {"he": {"she", "her", "hers"}, "she": {"he", "him", "his"}}[named[0].he]
        assert not other & {word.lower() for word in words}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda each: cast(Template, each).name)
def test_every_template_writes_right_answers_in_clean_english(template: Template):
    people = TEST_PEOPLE if template.split == "test" else TRAIN_PEOPLE

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**64))
    def run(seed: int) -> None:
        question, lines, result = template.write(Draw(str(seed), people))
        answer = "\n".join([*lines, f"#### {result}"])
        assert re.match(r"[A-Z]", question)
        assert question.endswith("?")
        assert question.count("?") == 1
        check_answer(answer)
        check_english(question)
        check_english(answer)
        check_people(Problem(question, answer, template.name))

    run()


@pytest.mark.parametrize("split", SPLITS)
def test_many_problems_hold_up(split: Split):
    for problem in generate(split, 1200, seed=7):
        check_answer(problem.answer)
        check_english(problem.question)
        check_english(problem.answer)
        check_people(problem)


def test_there_are_enough_templates_and_every_theme_is_in_both_splits():
    assert len(TEMPLATES) >= 48
    assert all(name == template.name for name, template in TEMPLATES.items())
    for split in ("train", "test"):
        themes = {each.theme for each in TEMPLATES.values() if each.split == split}
        assert themes == set(get_args(Theme))


def test_templates_are_used_evenly():
    counts = Counter(problem.template for problem in generate("train", 400))
    assert set(counts) == {each.name for each in TEMPLATES.values() if each.split == "train"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_template_varies():
    by_template: dict[str, set[str]] = {}
    for problem in [*generate("train", 1200), *generate("test", 600)]:
        skeleton = re.sub(r"\d+", "#", problem.question)
        for person in (*TRAIN_PEOPLE, *TEST_PEOPLE):
            skeleton = skeleton.replace(person.name, "P")
        by_template.setdefault(problem.template, set()).add(skeleton)
    assert min(len(skeletons) for skeletons in by_template.values()) >= 5


def test_splits_share_no_question_and_test_no_template_or_name():
    train, validation, test = (generate(split, 1500, seed=1) for split in SPLITS)
    other_seed = generate("validation", 1000, seed=2)
    questions = [{each.question for each in split} for split in (train, validation, test)]
    assert [len(each) for each in questions] == [1500, 1500, 1500]
    assert not questions[0] & questions[1]
    assert not questions[0] & {each.question for each in other_seed}
    assert not (questions[0] | questions[1]) & questions[2]
    seen_in_training = {each.template for each in [*train, *validation]}
    assert not seen_in_training & {each.template for each in test}

    def words(problems: list[Problem]) -> set[str]:
        return {word for each in problems for word in re.findall(r"\w+", each.question)}

    assert not words([*train, *validation]) & {person.name for person in TEST_PEOPLE}
    assert not words(test) & {person.name for person in TRAIN_PEOPLE}


def test_names_are_different_people():
    names = [person.name for person in (*TRAIN_PEOPLE, *TEST_PEOPLE)]
    assert len(set(names)) == len(names)


@given(
    split=st.sampled_from(SPLITS),
    size=st.integers(0, 60),
    more=st.integers(0, 60),
    seed=st.integers(-5, 2**70),
)
@settings(max_examples=25, deadline=None)
def test_a_longer_list_continues_a_shorter_one(split: Split, size: int, more: int, seed: int):
    longer = generate(split, size + more, seed=seed)
    assert len(longer) == size + more
    assert generate(split, size, seed=seed) == longer[:size]


def test_seeds_differ():
    assert generate("train", 50, seed=0) != generate("train", 50, seed=1)


def test_the_first_problems_never_change():
    first = generate("train", 100)
    text = "\n\n".join(f"{each.question}\n{each.answer}" for each in first)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "25af71fa817dcd36f647e5ef647e18b815a1316e7c0b27cee9a42915462ec46a"


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'train', 'validation', 'test', got 'dev'"):
        generate(cast(Split, "dev"), 1)


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="size of 0 or more, got -1"):
        generate("train", -1)


def test_a_size_beyond_the_templates_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wordmath, "_TRIES", 2)  # as if nearly every question were taken
    with pytest.raises(ValueError, match=r"different questions, got 500: .* ask for at most \d+"):
        generate("validation", 500)


# --- the building blocks ------------------------------------------------------------------------


def test_a_calculation_shows_and_computes_the_same():
    assert calc("16 - 3 - 4").work == "16 - 3 - 4 = <<16-3-4=9>>9"
    assert calc("2.5 * 4").work == "2.5 * 4 = <<2.5*4=10>>10"
    assert calc("2 * (3 + 4) / 4").work == "2 * (3 + 4) / 4 = <<2*(3+4)/4=3.5>>3.5"
    assert dollars("3 * 0.50").work == "3 * 0.50 = $<<3*0.50=1.50>>1.50"
    assert calc("0.1 + 0.2").value == Fraction(3, 10)
    assert int(calc("1 / 3 * 9")) == 3
    assert str(dollars("5 / 2")) == "2.50"


@pytest.mark.parametrize("expression", ["1 / 3", "1 / 8", "2 - 3"])
def test_a_result_that_cannot_be_shown_is_refused(expression: str):
    with pytest.raises(ValueError, match="at most two decimals"):
        calc(expression)


@pytest.mark.parametrize("expression", ["2 ** 3", "x + 1", "int(3)", "True + 1", "-3 + 4", "'a'"])
def test_only_plain_arithmetic_is_worked_out(expression: str):
    with pytest.raises(ValueError, match="expected numbers"):
        calc(expression)


def test_a_fractional_answer_is_refused():
    with pytest.raises(ValueError, match="whole result"):
        int(calc("5 / 2"))


def test_draws_repeat_and_stay_in_range():
    draw, again = Draw("key"), Draw("key")
    values = [draw.integers(3, 7) for _ in range(2000)]
    assert values == [again.integers(3, 7) for _ in range(2000)]
    assert set(values) == {3, 4, 5, 6, 7}
    assert values[:8] == [6, 5, 3, 3, 5, 6, 4, 7]
    assert {draw.multiple(5, 12, 26) for _ in range(200)} == {15, 20, 25}
    assert sorted(draw.sample(range(9), 9)) == list(range(9))


def test_grammar():
    words = ("apple", "box of pens", "daisy", "bunch", "loaf of bread", "square foot", "day")
    assert [plural(word) for word in words] == [
        "apples",
        "boxes of pens",
        "daisies",
        "bunches",
        "loaves of bread",
        "square feet",
        "days",
    ]
    assert (qty(1, "apple"), qty(2, "apple")) == ("1 apple", "2 apples")
    assert qty(calc("3 - 2"), "child") == "3 - 2 = <<3-2=1>>1 child"
    assert (a("orange"), a("pear"), cap("a T-shirt")) == ("an orange", "a pear", "A T-shirt")
    assert [clock(time) for time in (0, 545, 720, 785)] == [
        "12:00 a.m.",
        "9:05 a.m.",
        "noon",
        "1:05 p.m.",
    ]
    assert [duration(time) for time in (45, 60, 135)] == [
        "45 minutes",
        "1 hour",
        "2 hours and 15 minutes",
    ]
    assert [cents(amount) for amount in (250, 300, 5)] == ["2.50", "3", "0.05"]
