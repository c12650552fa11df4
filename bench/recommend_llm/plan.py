"""Which runs the tables of language models as recommenders are made of."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

METHODS = ("lora", "loram")
POINTS = (-4.0, -3.5, -3.0, -2.5)  # powers of ten of the learning rate, to begin with
_TEXT = "{trains: [adapter], prompts: text, epochs: %d}"


class Planned(NamedTuple):
    """A run: its folder's name, a settings file of the package, and what it changes."""

    name: str
    config: str
    changes: tuple[str, ...]


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


def rate(out: Path, method: str) -> float:
    """The learning rate of the best validation AUC.

    Raises:
        SystemExit: no rate was tried yet.
    """
    tried: dict[float, float] = {}
    for folder in out.glob(f"tune-{method}-*"):
        judged = folder / "judged.jsonl"
        if judged.exists() and (folder / "results.json").exists():
            line = json.loads(judged.read_text().splitlines()[-1])
            tried[float(folder.name.removeprefix(f"tune-{method}-"))] = line["valid"]
    if not tried:
        raise SystemExit("no learning rate is tried yet: run the plan tallrec first")
    return 10 ** max(tried, key=lambda point: tried[point])


def _tallrec(shots: int, epochs: int, method: str, lr: float, seed: int) -> Planned:
    return Planned(
        f"tallrec-{shots}-{method}-{seed}",
        "tallrec-small",
        (
            f"adapter.method={method}",
            f"lr={lr!r}",
            f"seed={seed}",
            f"stages=[{_TEXT % epochs}]",
            f"data.shots={shots}",
            "data.valid=1",
        ),
    )


SHOTS = MappingProxyType({64: partial(_tallrec, 64, 3), 256: partial(_tallrec, 256, 2)})


def _vectors(lr: float, seed: int) -> list[Planned]:
    projector = "{trains: [projector], prompts: hybrid, lr: 1.0e-3, epochs: 2}"
    changes = (
        f"lr={lr!r}",
        f"seed={seed}",
        f"stages=[{_TEXT % 2}, {projector}]",
        "data.shots=128",
        "data.valid=1",
        "data.test=500",
    )
    names = ("collm-mf", "macdae")
    return [Planned(f"{name}-{seed}", f"{name}-small", changes) for name in names]


def _sequences(lr: float, seed: int) -> list[Planned]:
    changes = (f"lr={lr!r}", f"seed={seed}", "data.shots=128", "data.valid=1")
    return [Planned(f"{name}-{seed}", f"{name}-small", changes) for name in ("llara", "ilora")]


PLANS: MappingProxyType[str, Callable[[float, int], list[Planned]]] = MappingProxyType(
    {"vectors": _vectors, "sequences": _sequences}
)
