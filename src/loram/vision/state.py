"""The checkpoint of a DreamBooth run: one file, replaced whole."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loram.files import staged_file
from loram.train.errors import RunError

__all__ = ["load_state", "save_state"]


def save_state(
    file: Path,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    start: Mapping[str, Tensor],
    losses: list[float],
    seconds: list[float],
) -> None:
    """Write factors, optimiser and history; `start` is what the run must start from again."""
    state: dict[str, Any] = {
        "trained": {name: parameter.detach() for name, parameter in trained.items()},
        "optimizer": optimizer.state_dict(),
        "start": _fixed(start),
        "losses": losses,
        "seconds": seconds,
    }
    with staged_file(file) as staging:
        torch.save(state, staging)


@torch.no_grad()
def load_state(
    file: Path,
    trained: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    start: Mapping[str, Tensor],
) -> tuple[list[float], list[float]]:
    """Write a checkpoint into factors and optimiser; its losses and seconds, none without one.

    Raises:
        RunError: the file is damaged, or the starting point does not come out again.
    """
    if not file.exists():
        return [], []
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        kept, mine = state["start"], _fixed(start)
        same = kept.keys() == mine.keys() and all(torch.equal(kept[k], mine[k]) for k in mine)
        if same:
            for name, parameter in trained.items():
                parameter.copy_(state["trained"][name])
            optimizer.load_state_dict(state["optimizer"])
        history = list(state["losses"]), list(state["seconds"])
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"can't go on from {file} ({first}): remove it to begin again") from error
    if not same:
        raise RunError(
            f"{file} was begun from another starting point than comes out now, with another "
            "version of a library or on another machine: begin again in a new folder"
        )
    return history


def _fixed(start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.detach().cpu() for key, tensor in start.items()}
