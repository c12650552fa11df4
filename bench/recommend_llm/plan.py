"""Which runs the tables of language models as recommenders are made of."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

METHODS = ("lora", "loram")
SHOTS = (64, 256)
SEQUENCES = ("llara", "ilora")
_TEXT = "{trains: [adapter], prompts: text, epochs: %d}"


class Planned(NamedTuple):
    """A run: its folder's name, a settings file of the package, and what it changes."""

    name: str
    config: str
    changes: tuple[str, ...]


class Tuned(NamedTuple):
    """What has a learning rate of its own: a settings file, and what its short runs change."""

    config: str
    changes: tuple[str, ...]


class Plan(NamedTuple):
    """Runs of a table: what is tuned for them, and the runs of a seed at those rates.

    `points` are powers of ten of the learning rate, to begin with.
    """

    tuned: Mapping[str, Tuned]
    runs: Callable[[Mapping[str, float], int], list[Planned]]
    points: tuple[float, ...] = (-4.0, -3.5, -3.0, -2.5)


def tuning(name: str, of: Tuned, point: float) -> Planned:
    """One seed at one rate, judged on validation samples at its end."""
    changes = (f"lr={10**point!r}", "judge_every=1000", *of.changes)
    return Planned(f"tune-{name}-{point:g}", of.config, changes)


def rate(out: Path, name: str) -> float:
    """The learning rate of the best validation.

    Raises:
        SystemExit: no rate was tried yet.
    """
    tried = validations(out, name)
    if not tried:
        raise SystemExit(f"no learning rate of {name} is tried yet: run its plan first")
    return 10 ** max(tried, key=lambda point: tried[point])


def validations(out: Path, name: str) -> dict[float, float]:
    """Power of ten of each rate that was tried → its validation AUC or NDCG@5."""
    tried: dict[float, float] = {}
    for folder in out.glob(f"tune-{name}-*"):
        judged = folder / "judged.jsonl"
        if judged.exists() and (folder / "results.json").exists():
            line = json.loads(judged.read_text().splitlines()[-1])
            tried[float(folder.name.removeprefix(f"tune-{name}-"))] = line["valid"]
    return dict(sorted(tried.items()))


def _tuned_tallrec(method: str) -> Tuned:
    """At 64 shots."""
    stage = "{trains: [adapter], prompts: text, epochs: 3, patience: 1}"
    small = ("data.valid=300", "data.test=64")
    return Tuned("tallrec-small", (f"adapter.method={method}", f"stages=[{stage}]", *small))


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


def _curriculum(name: str, *more: str) -> str:
    router = ", router" if name == "ilora" else ""
    keys = ["prompts: curriculum", "epochs: 2", *more]
    return f"stages=[{{trains: [adapter, projector{router}], {', '.join(keys)}}}]"


def _tuned_sequences(name: str) -> Tuned:
    """By the NDCG@5 of all validation sequences."""
    stage = _curriculum(name, "patience: 1")
    small = ("data.shots=64", "data.test=8", "written=false")
    return Tuned(f"{name}-small", (stage, *small))


def _sequences(rates: Mapping[str, float], seed: int) -> list[Planned]:
    return [
        Planned(
            f"{name}-{seed}",
            f"{name}-small",
            (
                f"lr={rates[name]!r}",
                f"seed={seed}",
                _curriculum(name),
                "data.shots=64",
                "data.valid=1",
            ),
        )
        for name in SEQUENCES
    ]


PLANS: MappingProxyType[str, Plan] = MappingProxyType(
    {
        "tallrec": Plan({method: _tuned_tallrec(method) for method in METHODS}, _tallrec),
        "vectors": Plan({"loram": _tuned_tallrec("loram")}, _vectors),
        "sequences": Plan(
            {name: _tuned_sequences(name) for name in SEQUENCES}, _sequences, (-4.0, -3.5, -3.0)
        ),
    }
)
