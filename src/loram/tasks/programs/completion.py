"""From what a model wrote to a program that can be run."""

import ast
import re
import warnings

from loram.tasks.task import Program

__all__ = ["assemble", "provided"]

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
# Chen et al. 2021 stop a function's body there: what follows is no longer part of it.
_AFTER_BODY = ("\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint", "\nassert ", "\n```")
# Of a whole program only what is not definitions is cut.
_AFTER_PROGRAM = ("\nif __name__", "\nprint(", "\nassert ", "\n```", "\n[DONE]")


def assemble(problem: Program, written: str) -> str:
    """The program: what stands before the first code fence if it is code, else what is in it.

    A problem with an entry point shows the head of a function (HumanEval); what is written goes on
    from there, or defines the function anew, imports of the head included. Else the text is the
    whole program (MBPP). What follows the program is cut off.

    Args:
        problem: that was asked.
        written: by the model, after the prompt.
    """
    text = written.replace("\r\n", "\n")
    fenced = _FENCE.search(text)
    # A fence after code closes what the prompt opened, or the model thinks it did.
    if fenced and not _adds(problem, text[: fenced.start()]):
        text = fenced[1]
    return _assemble(problem, text)


def _assemble(problem: Program, text: str) -> str:
    if problem.entry_point is None:
        return _cut(text.removeprefix("[BEGIN]"), _AFTER_PROGRAM)
    anew = re.search(rf"^(async )?def {re.escape(problem.entry_point)}\b", text, re.MULTILINE)
    if anew:
        return f"{problem.question}\n    pass\n\n{_cut(text, _AFTER_PROGRAM)}"
    # Many models leave out the indent of the first line, which the prompt's end suggests.
    first = text.lstrip("\n")
    if first and not first[0].isspace():
        text = f"    {first}"
    return problem.question + _cut(text, _AFTER_BODY)


def provided(problem: Program) -> frozenset[str]:
    """The names the worked solution defines, which tests may use even if they hide a built-in."""
    source = problem.answer
    if problem.entry_point is not None:
        source = problem.question + source
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset({problem.entry_point} if problem.entry_point else ())
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in tree.body if isinstance(node, defined))


def _adds(problem: Program, text: str) -> bool:
    """Whether a text is code: the program made of it parses and does more than without it."""
    return _statements(_assemble(problem, text)) > max(_statements(_assemble(problem, "")), 0)


def _statements(source: str) -> int:
    """Their number, expressions by themselves left out, which a word of prose is; -1 if no code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes, which the model may have got wrong
            nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return -1
    return sum(isinstance(node, ast.stmt) and not isinstance(node, ast.Expr) for node in nodes)


def _cut(text: str, stops: tuple[str, ...]) -> str:
    return text[: min((place for s in stops if (place := text.find(s)) >= 0), default=len(text))]
