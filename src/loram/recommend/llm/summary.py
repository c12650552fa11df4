"""A run's results as rows of a table: what needs no training first, then the model, then papers."""

from typing import Any

__all__ = ["table_of"]

_SHOWN = ("auc", "uauc", "hr@1", "ndcg@5", "ndcg@10")  # what a terminal has room for


def table_of(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows.

    Args:
        results: of `results.json`.

    Returns:
        Values with their intervals; what a row does not have is `-`. All metrics are in the file.
    """
    sections = (
        ("floor", results["baselines"]),
        ("LLM", results["metrics"]),
        ("published", results["published"]),
    )
    there = next(iter(results["metrics"].values()))
    metrics = [name for name in _SHOWN if name in there]
    rows = [
        [kind, name, *(_cell(found.get(metric)) for metric in metrics)]
        for kind, section in sections
        for name, found in section.items()
    ]
    answers = results.get("written")
    if answers is not None:
        cells = {"hr@1": answers["hr@1"]}
        rows.insert(
            len(results["baselines"]) + 1,
            [
                "LLM",
                f"written answers, ValidRatio {answers['valid_ratio']:.3f}",
                *(_cell(cells.get(metric)) for metric in metrics),
            ],
        )
    return ["", "method", *metrics], rows


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float | int):
        return f"{value:.3f}"
    middle, low, high = value
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"
