"""What every template is built from: repeatable draws, exact calculations and finished stories."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from .words import Person

T = TypeVar("T")
Split = Literal["train", "validation", "test"]
Theme = Literal[
    "arithmetic",
    "comparison",
    "sharing",
    "ages",
    "money",
    "fractions",
    "rates",
    "time",
    "geometry",
    "chains",
]

Exact = int | Fraction


class Draw:
    """A stream of draws that every platform, Python and NumPy version repeats.

    ``random.Random`` and ``numpy.random.Generator`` may change how they turn bits into a draw;
    NumPy promises only the raw bits of a bit generator, so the draws are made from those here.
    """

    def __init__(self, key: str, people: Sequence[Person] = ()) -> None:
        """Start the stream that ``key`` names; ``people`` are those its stories may be about."""
        digest = hashlib.sha256(key.encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
        self._ready: list[int] = []
        self._people = people

    def integers(self, lo: int, hi: int) -> int:
        """Draw an integer from ``lo`` to ``hi``, both included."""
        if not self._ready:
            self._ready = [int(bits) for bits in self._bits.random_raw(256)]
        # The remainder favours no value by more than 2**-50: the ranges are tiny beside 2**64.
        return lo + self._ready.pop() % (hi - lo + 1)

    def multiple(self, of: int, lo: int, hi: int) -> int:
        """Draw a multiple of ``of`` from ``lo`` to ``hi``."""
        return of * self.integers(-(-lo // of), hi // of)

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of ``options``."""
        return options[self.integers(0, len(options) - 1)]

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """Draw ``k`` different places of ``options``, in random order."""
        pool = list(options)
        for i in range(k):
            j = self.integers(i, len(pool) - 1)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]

    def person(self) -> Person:
        """Draw someone for the story to be about."""
        return self.choice(self._people)

    def people(self, k: int) -> list[Person]:
        """Draw ``k`` different people."""
        return self.sample(self._people, k)


@dataclass(frozen=True, slots=True)
class Calc:
    """One worked calculation. As text it is its result alone, ready for the next expression.

    ``work`` is the calculation as GSM8K writes it, annotation included.
    """

    expression: str
    value: Exact
    text: str
    sign: str = ""

    def __str__(self) -> str:
        return self.text

    def __int__(self) -> int:
        if self.value.denominator != 1:
            raise ValueError(f"expected a whole result, got {self.expression} = {self.value}")
        return self.value.numerator

    @property
    def work(self) -> str:
        """The calculation as GSM8K writes it: ``16 - 3 = <<16-3=13>>13``."""
        annotation = f"<<{self.expression.replace(' ', '')}={self.text}>>"
        return f"{self.expression} = {self.sign}{annotation}{self.text}"


def calc(expression: str, *, sign: str = "") -> Calc:
    """Work ``expression`` (``+ - * /``, brackets, decimals) out exactly.

    ``sign`` is put before the result; a result with one is money, with two decimals or none.

    Raises:
        ValueError: if the expression holds anything else, or if its result is negative or needs
            more than two decimals, which no worked line of ours may contain.
        SyntaxError: if it is not an expression at all.
    """
    value = _evaluate(ast.parse(expression, mode="eval").body)
    return Calc(expression, value, decimal(value, money=bool(sign)), sign)


def dollars(expression: str) -> Calc:
    """Work ``expression`` out as an amount of money; see ``calc``."""
    return calc(expression, sign="$")


def _evaluate(node: ast.expr) -> Exact:
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return number
        case ast.Constant(value=float(number)):
            return Fraction(str(number))  # 0.1 as it was written, not the nearest double
        case ast.BinOp(left, ast.Add(), right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left, ast.Sub(), right):
            return _evaluate(left) - _evaluate(right)
        case ast.BinOp(left, ast.Mult(), right):
            return _evaluate(left) * _evaluate(right)
        case ast.BinOp(left, ast.Div(), right):
            return Fraction(_evaluate(left), _evaluate(right))
        case _:
            raise ValueError(f"expected numbers and + - * /, got {ast.unparse(node)!r}")


def decimal(value: Exact, *, money: bool = False) -> str:
    """Write ``value`` exactly, in at most two decimals; ``money`` has both or neither.

    Raises:
        ValueError: if ``value`` is negative or needs more than two decimals.
    """
    if value.numerator < 0 or 100 % value.denominator != 0:
        raise ValueError(f"expected a number >= 0 with at most two decimals, got {value}")
    if value.denominator == 1:
        return str(value.numerator)
    whole, rest = divmod(value.numerator * 100 // value.denominator, 100)
    text = f"{whole}.{rest:02d}"
    return text if money else text.rstrip("0")


def cents(amount: int) -> str:
    """Write an amount of cents in dollars, without the sign: 250 is ``2.50`` and 300 is ``3``."""
    return decimal(Fraction(amount, 100), money=True)


class Story(NamedTuple):
    """What a template writes: the question, the lines of the worked answer and the result."""

    question: str
    lines: list[str]
    answer: int


def story(question: Sequence[str], lines: Sequence[str], answer: Calc) -> Story:
    """Put sentences together into a story whose result is ``answer``."""
    return Story(" ".join(question), list(lines), int(answer))


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of problem; ``split`` is the side it belongs to: validation shares train's."""

    name: str
    theme: Theme
    split: Literal["train", "test"]
    write: Callable[[Draw], Story]
