"""Which runs the tables of language models as recommenders are made of."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

METHODS = ("lora", "loram")
SHOTS = (64, 256)
SEQUENCES = ("llara", "ilora")
POINTS = (-4.0, -3.5, -3.0, -2.5)  # powers of ten of the learning rate, to begin with
_TEXT = "{trains: [adapter], prompts: text, epochs: %d}"


class Planned(NamedTuple):
    """A run: its folder's name, a settings file of the package, and what it changes."""

    name: str
    config: str
    changes: tuple[str, ...]


class Plan(NamedTuple):
    """Runs of a table: the methods tuned for them, and the runs of a seed at those rates."""

    tuned: tuple[str, ...]
    runs: Callable[[Mapping[str, float], int], list[Planned]]


def tuning(method: str, point: float) -> Planned:
    """TALLRec at 64 shots, judged on validation samples at its end."""
    stage = "{trains: [adapter], prompts: text, epochs: 3, patience: 1}"
    return Planned(
        f"tune-{method}-{point:g}",
        "tallrec-small",
        (
            f"adapter.method={method}",
            f"lr={10**point!r}",
            f"stages=[{stage}]",
            "judge_every=1000",
            "data.valid=300",
            "data.test=64",
        ),
    )


def rate(out: Path, name: str) -> float:
    """The learning rate of the best validation AUC.

    Raises:
        SystemExit: no rate was tried yet.
    """
    tried = validations(out, name)
    if not tried:
        raise SystemExit(f"no learning rate of {name} is tried yet: run its plan first")
    return 10 ** max(tried, key=lambda point: tried[point])


def validations(out: Path, name: str) -> dict[float, float]:
    """Power of ten of each rate that was tried → its validation AUC."""
    tried: dict[float, float] = {}
    for folder in out.glob(f"tune-{name}-*"):
        judged = folder / "judged.jsonl"
        if judged.exists() and (folder / "results.json").exists():
            line = json.loads(judged.read_text().splitlines()[-1])
            tried[float(folder.name.removeprefix(f"tune-{name}-"))] = line["valid"]
    return dict(sorted(tried.items()))


def _tallrec(rates: Mapping[str, float], seed: int) -> list[Planned]:
    return [
        Planned(
            f"tallrec-{shots}-{method}-{seed}",
            "tallrec-small",
            (
                f"adapter.method={method}",
                f"lr={rates[method]!r}",
                f"seed={seed}",
                f"stages=[{_TEXT % epochs}]",
                f"data.shots={shots}",
                "data.valid=1",
            ),
        )
        for shots, epochs in zip(SHOTS, (3, 2), strict=True)
        for method in METHODS
    ]


def _vectors(rates: Mapping[str, float], seed: int) -> list[Planned]:
    projector = "{trains: [projector], prompts: hybrid, lr: 1.0e-3, epochs: 2}"
    changes = (
        f"lr={rates['loram']!r}",
        f"seed={seed}",
        f"stages=[{_TEXT % 2}, {projector}]",
        "data.shots=128",
        "data.valid=1",
        "data.test=500",
    )
    names = ("collm-mf", "macdae")
    return [Planned(f"{name}-{seed}", f"{name}-small", changes) for name in names]


def _sequences(rates: Mapping[str, float], seed: int) -> list[Planned]:
    """Steps of four: in the sixteens of the small settings, 64 shots are too few to learn a title.

    At one rate: of 1e-4, 3.2e-4 and 1e-3 that at which LLaRA's training loss fell fastest, for by
    NDCG@5 none could be told from chance after eight steps. So the table ranks neither of the two.
    """
    changes = ("lr=1.0e-3", f"seed={seed}", "batch_size=4", "data.shots=128", "data.valid=1")
    return [Planned(f"{name}-{seed}", f"{name}-small", changes) for name in SEQUENCES]


PLANS: MappingProxyType[str, Plan] = MappingProxyType(
    {
        "tallrec": Plan(METHODS, _tallrec),
        "vectors": Plan(("loram",), _vectors),
        "sequences": Plan((), _sequences),
    }
)
