"""Judging an answer by GSM8K's rules."""

import pytest

from loram.tasks import exact_match, final_answer, wordmath


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 1,234", "1234"),
        ("#### $5", "5"),
        ("#### $ 5", "5"),
        ("####5", "5"),
        ("#### 12.", "12"),
        ("#### 12, of course", "12"),
        ("#### -7", "-7"),
        ("#### -1,234.50", "-1234.50"),
        ("#### 3.0", "3.0"),
        ("#### 5 apples", "5"),
        ("#### 5%", "5"),
        ("it is 4\n#### 5\nor 6", "5"),
        ("#### 5\n#### 6", "5"),
        ("####\n5", "5"),
        ("5", None),
        ("### 5", None),
        ("####", None),
        ("#### five", None),
        ("#### x = 5", None),
        ("", None),
    ],
)
def test_the_result_is_the_number_after_the_marker(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("so\n#### 12", "12 it is\n#### 12", True),
        ("#### 3.0", "#### 3", True),
        ("#### 3", "#### 3.00", True),
        ("#### 007", "#### 7", True),
        ("#### 1,000", "#### 1000", True),
        ("#### $1,000.", "#### 1000", True),
        ("#### -5", "#### 5", False),
        ("#### 3.01", "#### 3", False),
        ("12", "#### 12", False),
        ("", "#### 12", False),
        ("#### twelve", "#### 12", False),
        ("#### 13\n#### 12", "#### 12", False),
        ("#### 1.2.3", "#### 1.2.3", True),
        ("#### 1.2.3", "#### 1.2", False),
        ("#### 123456789012345678901", "#### 123456789012345678902", False),
        # Without a marker in the reference, words count, and nothing else.
        ("  the cat\n sat", "the cat sat", True),
        ("The cat sat", "the cat sat", False),
        ("#### 5", "5", False),
        ("", "5", False),
    ],
)
def test_answers_agree_by_value_or_else_by_words(prediction, reference, right):
    assert exact_match(prediction, reference) is right


def test_every_answer_of_wordmath_is_right_by_itself_and_wrong_for_others():
    answers = [problem.answer for problem in wordmath.generate("train", 60)]
    assert all(exact_match(answer, answer) for answer in answers)
    values = [final_answer(answer) for answer in answers]
    for one, value in zip(answers, values, strict=True):
        assert [exact_match(one, each) for each in answers] == [value == each for each in values]
