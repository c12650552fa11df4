r"""MATH's rules: the last `\boxed`, and what its script takes for the same answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loram.tasks.math_answers import boxed, equivalent, math_flexible, math_match


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so $\boxed{2}$.", "2"),
        (r"\boxed{1} and \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\text{a {b} c}} }", r"\text{a {b} c}"),
        (r"\fbox{3}", "3"),
        (r"\boxed{1} i.e. \fbox{2}", "1"),
        (r"\boxed {3}", "3"),
        (r"$\boxed 7$ and so on", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{2", None),
        (r"\boxed", None),
        (r"\boxed{1}, so \boxed", None),  # cut off at the answer
        (r"\fbox{1}, so \boxed", None),
        (r"\fbox 3", None),
        ("2", None),
        ("", None),
    ],
)
def test_what_is_boxed_last_is_the_answer(text, inside):
    assert boxed(text) == inside


# Both columns mean the same to the published script.
SAME = [
    (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    (r"\frac{1}{2}", r"\tfrac12"),
    (r"\frac{1}{2}", r"\frac1{2}"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac{1}{2}", ".5"),
    (r"\frac{-1}{2}", "-1/2"),
    (r"-\frac{1}{2}", r"-\frac12"),
    (r"\sqrt{3}", r"\sqrt3"),
    (r"2\sqrt{3}+1", r"2 \sqrt3 + 1"),
    ("5", "x = 5"),
    ("5", "x=5"),
    ("5", r"5\text{ cm}"),
    ("5", r"5 \text{ miles per hour}"),
    ("10", r"10\%"),
    ("10", "10%"),
    ("10", r"\$10"),
    ("90", r"90^\circ"),
    ("90", r"90^{\circ}"),
    (r"(1,2)", r"\left( 1, 2 \right)"),
    ("1000", r"1\!000"),
    ("0.3", ".3"),
    (r"\frac{0.3}{2}", r"\frac{.3}{2}"),
    ("a b", "ab"),
    ("", ""),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "\\begin{pmatrix}1\\2\\end{pmatrix}"),
]
# Its quirks: these are different to it.
DIFFERENT = [
    ("2", "3"),
    ("0.25", r"\frac{1}{4}"),
    ("1,000", "1000"),
    ("5", "xyz = 5"),
    ("5", "5 = x"),
    ("x = 5", "y = x = 5"),
    (r"\frac{1}{2}", r"\frac{2}{4}"),
    ("02/4", r"\frac{2}{4}"),
    (r"\text{cm}", "cm"),
    (r"\sqrt{2}", r"\sqrt 2"),
    ("(1,2)", "(2,1)"),
    ("5", ""),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_ways_of_writing_one_answer(one, other):
    assert equivalent(one, other)
    assert equivalent(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_the_script_tells_apart(one, other):
    assert not equivalent(one, other)


@pytest.mark.parametrize(
    "text", [r"\sqrt", r"\frac", r"1\text{ a}\text{ b}", r"\frac\frac12", r"x^\sqrt\sqrt2"]
)
def test_what_it_cannot_read_is_compared_as_it_stands(text):
    assert equivalent(text, text)
    assert not equivalent(text, f" {text}")


def test_nothing_is_not_an_answer():
    assert not equivalent(None, None)
    assert not equivalent(None, "")


@given(st.text("\\frac{}sqrt12/.=% $x", max_size=20), st.text("\\frac{}sqrt12/.=% $x", max_size=20))
def test_equivalence_is_reflexive_symmetric_and_never_fails(one, other):
    assert equivalent(one, one)
    assert equivalent(one, other) == equivalent(other, one)


@pytest.mark.parametrize(
    ("written", "strict", "flexible"),
    [
        (r"so $\boxed{\frac12}$", True, True),
        ("The answer is: 1/2", False, True),
        ("The answer is $0.5$.", False, True),
        (r"The answer is: 3, or \boxed{1/2}", True, True),
        (r"\boxed{3} The answer is: 1/2", False, False),
        ("1/2", False, False),
        ("", False, False),
    ],
)
def test_a_solution_is_judged_by_its_box(written, strict, flexible):
    reference = r"Half of it is $\boxed{\frac{1}{2}}$."
    assert math_match(written, reference) is strict
    assert math_flexible(written, reference) is flexible
