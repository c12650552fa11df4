"""The last number of a text, as papers read it that don't train on `####`."""

import pytest

from loram.tasks.answers import exact_match, flexible_match, last_number, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is: 42", "42"),
        ("The answer is 42.", "42"),
        ("so 1,234.50 dollars", "1234.50"),
        ("it costs $1,000.", "1000"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("between 3 and -7", "-7"),
        ("3-2", "2"),
        ("8 * 2 = 16 eggs", "16"),
        ("#### 18\nThe answer is: 18", "18"),
        ("half is .5", ".5"),
        ("50%", "50"),
        ("1, 2, 3", "3"),
        ("<<16-3-4=9>>9", "9"),
        ("none", None),
        ("", None),
        ("x2", None),
    ],
)
def test_the_last_number_is_found(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("prediction", "reference", "strict", "flexible"),
    [
        ("so it is 18", "#### 18", False, True),
        ("#### 18", "#### 18", True, True),
        ("#### 18\nand 3 more", "#### 18", True, False),
        ("18.0 in all", "#### 18", False, True),
        ("eighteen", "#### 18", False, False),
        ("7", "the answer is 7", False, True),
        ("", "#### 18", False, False),
    ],
)
def test_where_the_two_rules_part(prediction, reference, strict, flexible):
    assert exact_match(prediction, reference) is strict
    assert flexible_match(prediction, reference) is flexible


def test_nothing_equals_nothing():
    assert not same_number(None, None)
    assert not flexible_match("", "")
