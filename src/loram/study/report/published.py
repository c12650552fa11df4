"""The LoRAM paper's own numbers (arXiv 2507.06558, tables 1, 2 and 4), to stand beside ours.

They are of other models, data and steps, each at one fixed learning rate: never mixed with ours,
always labelled as theirs.
"""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["PUBLISHED", "Published", "published"]


class Published(NamedTuple):
    """A table of the paper.

    Attributes:
        table: its number there.
        what: model and settings.
        tasks: its columns, by the last part of our tasks' names.
        rows: (rank, method, value of each task); None where our copy of the paper has none.
        note: on how to read it.
    """

    table: str
    what: str
    tasks: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str | None, ...]], ...]
    note: str = ""


_NLG = (
    "LLaMA-2-7B, AdamW, batch 128, lr 2e-5, warm-up 3 %, cosine, no decay, one epoch of 100k "
    "samples, s = 1 (√r for RsLoRA)"
)


def _rows(rank: str, text: str) -> tuple[tuple[str, str, tuple[str | None, ...]], ...]:
    """Rows of `method: value, value, …`; a dash is a value that isn't known."""
    lines = [line.strip().partition(":") for line in text.strip().splitlines()]
    return tuple(
        (
            rank,
            method.strip(),
            tuple(None if cell.strip() == "-" else cell.strip() for cell in cells.split(",")),
        )
        for method, _, cells in lines
    )


_TABLE_1 = Published(
    "1",
    _NLG,
    ("gsm8k", "math", "humaneval", "mbpp", "commonsense"),
    (
        *_rows(
            "-",
            "full: 60.34 ± 1.32, 11.74 ± 0.63, 32.30 ± 1.26, 39.27 ± 1.01, 79.20 ± 1.20",
        ),
        *_rows(
            "16",
            """
            lora: 31.51 ± 0.31, 4.16 ± 0.27, 15.98 ± 0.20, 28.65 ± 0.47, 66.56 ± 1.21
            rslora: 39.04 ± 0.53, 4.94 ± 0.40, 18.85 ± 0.66, 28.10 ± 0.64, 73.24 ± 0.84
            lora+: 31.69 ± 0.64, 3.98 ± 0.38, 18.54 ± 0.52, 28.00 ± 0.81, 72.19 ± 1.43
            milora: 29.70 ± 0.42, 4.18 ± 0.21, 14.69 ± 0.66, 27.23 ± 0.53, 67.90 ± 1.20
            olora: 35.83 ± 0.58, 4.80 ± 0.53, 16.58 ± 0.38, 27.44 ± 0.76, 73.48 ± 1.09
            pissa: 37.68 ± 0.45, 5.16 ± 0.41, 18.37 ± 0.49, 28.62 ± 0.68, 73.72 ± 1.05
            loram: 40.32 ± 0.43, 5.30 ± 0.37, 18.92 ± 0.55, 28.83 ± 0.63, 75.19 ± 1.10
            """,
        ),
        *_rows(
            "128",
            """
            lora: 40.27 ± 0.70, 4.72 ± 0.43, 20.11 ± 0.32, 28.84 ± 0.37, 73.64 ± 1.13
            rslora: 50.38 ± 0.37, 7.32 ± 0.28, 21.32 ± 0.70, 30.73 ± 0.43, 77.01 ± 1.17
            lora+: 40.41 ± 0.67, 5.28 ± 0.53, 20.71 ± 0.88, 29.13 ± 0.78, 78.19 ± 1.33
            milora: 39.81 ± 0.89, 5.18 ± 0.58, 20.39 ± 0.21, 29.95 ± 1.05, 74.29 ± 1.09
            olora: 50.10 ± 0.64, 7.01 ± 0.56, 20.72 ± 0.67, 30.21 ± 0.89, 78.61 ± 0.97
            pissa: 51.48 ± 0.77, 7.04 ± 0.54, 21.62 ± 0.48, 31.07 ± 0.68, 77.28 ± 0.98
            loram: 51.12 ± 0.73, 7.25 ± 0.68, 22.03 ± 0.56, 31.53 ± 0.72, 77.81 ± 0.96
            """,
        ),
    ),
)
_TABLE_2 = Published(
    "2",
    "DeBERTa-v3-base, rank 8, lr 1e-4, 3 epochs (MRPC 5)",
    ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"),
    (
        *_rows("-", "full: 88.31, 93.57, 89.46, 67.26, 92.80, 91.52, 83.75, 86.87"),
        *_rows(
            "8",
            """
            lora: 90.23, 95.87, 84.06, 63.56, 93.88, 90.55, 50.18, 87.20
            rslora: 90.33, 95.64, 86.38, 64.85, 93.97, 90.26, 60.31, 88.37
            lora+: 90.37, 95.32, 87.54, 64.79, 94.32, 90.93, 65.37, 89.20
            milora: 90.28, 95.75, 87.00, 62.58, 93.97, 90.83, 54.87, 87.74
            olora: 90.19, 94.83, 88.72, 65.59, 93.36, 90.74, 74.09, 88.52
            pissa: 90.38, 95.64, 89.21, 65.06, 93.84, 91.35, 74.36, 88.90
            loram: -, 95.29, 89.95, 65.53, 94.08, 91.70, 74.72, 89.93
            """,
        ),
    ),
    "MNLI over matched and mismatched, Matthews for CoLA, Pearson for STS-B, else accuracy, times "
    "100. No spread is given.",
)
_TABLE_4 = Published(
    "4",
    _NLG,
    ("math", "gsm8k", "mbpp", "humaneval"),
    (
        *_rows(
            "16",
            """
            loram, gain below log: 5.08, 40.1, 28.8, 17.1
            loram: 5.30, 40.3, 28.8, 18.9
            loram, gain above log: 5.18, 40.7, 28.3, 17.1
            loram-orthogonal: 4.74, 36.3, 28.6, 17.7
            loram-gaussian: 4.62, 35.8, 27.5, 17.7
            milora: 4.18, 29.7, 27.2, 14.6
            loram-track-milora: 4.05, 29.6, 27.8, 14.7
            pissa: 5.16, 37.6, 28.6, 18.3
            loram-track-pissa: 5.10, 36.7, 29.1, 17.3
            corda: 4.60, 36.2, 25.7, 15.2
            loram-track-corda: 4.14, 30.7, 28.3, 15.2
            lora-ga: 5.73, 45.7, 28.3, 19.5
            loram-track-lora-ga: 3.76, 30.9, 27.8, 17.7
            lora-ga-rslora: 7.94, 51.5, 33.9, 22.0
            loram-rslora: 7.22, 52.1, 31.5, 18.3
            """,
        ),
        *_rows(
            "128",
            """
            loram, gain below log: 7.52, 50.7, 31.5, 20.7
            loram: 7.25, 51.1, 31.5, 22.0
            loram, gain above log: 7.51, 50.4, 32.3, 22.6
            loram-orthogonal: 7.40, 50.2, 31.3, 23.2
            loram-gaussian: 7.62, 49.8, 32.8, 22.6
            milora: 5.18, 39.8, 29.9, 20.3
            loram-track-milora: 5.04, 39.2, 30.2, 19.5
            pissa: 7.04, 51.4, 31.0, 21.6
            loram-track-pissa: 6.95, 49.5, 29.6, 20.3
            corda: 6.26, 44.5, 29.6, 20.1
            loram-track-corda: 5.04, 40.3, 29.9, 18.9
            lora-ga: 9.18, 54.4, 32.0, 24.4
            loram-track-lora-ga: 7.32, 50.8, 30.2, 20.7
            lora-ga-rslora: 9.08, 53.6, 31.7, 26.8
            loram-rslora: 11.1, 59.4, 38.1, 31.7
            """,
        ),
    ),
    "The headings of the three gains are inferred. The printed averages of below and above the "
    "log gain (25.1 and 25.6) are not those of the cells (25.2 and 25.5).",
)

PUBLISHED = (_TABLE_1, _TABLE_2, _TABLE_4)


def published(tasks: Iterable[str]) -> list[tuple[Published, tuple[int, ...]]]:
    """Tables of the paper with some of these tasks, and which of the columns those are.

    Args:
        tasks: of `loram tasks`; `glue/mrpc` is the paper's MRPC.
    """
    names = {task.rsplit("/", 1)[-1].lower().replace("-", "") for task in tasks}
    found = [
        (table, tuple(k for k, task in enumerate(table.tasks) if task in names))
        for table in PUBLISHED
    ]
    return [(table, columns) for table, columns in found if columns]
