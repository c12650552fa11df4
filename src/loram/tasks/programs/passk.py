"""pass@k: how likely one of k programs is right, estimated from n of them without bias."""

from collections.abc import Sequence
from math import comb

__all__ = ["mean_pass_at_k", "pass_at_k"]


def pass_at_k(n: int, right: int, k: int) -> float:
    """1 − C(n − c, k) / C(n, k), in whole numbers up to one division.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374,
    equation 1.

    Args:
        n: programs written for one problem.
        right: c, of them.
        k: at most n.

    Raises:
        ValueError: k is not in 1 to n, or `right` not in 0 to n.
    """
    if not 1 <= k <= n or not 0 <= right <= n:
        raise ValueError(f"expected 1 ≤ k ≤ n and 0 ≤ right ≤ n, got n={n}, right={right}, k={k}")
    all_of = comb(n, k)
    return (all_of - comb(n - right, k)) / all_of


def mean_pass_at_k(passed: Sequence[Sequence[bool]], k: int) -> float:
    """The mean of pass@k over problems, given for each which of its programs passed.

    Raises:
        ValueError: no problems, or fewer than k programs for one.
    """
    if not passed:
        raise ValueError("expected one problem or more, got none")
    return sum(pass_at_k(len(each), sum(each), k) for each in passed) / len(passed)
