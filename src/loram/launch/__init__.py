"""`loram run -- COMMAND`: any Python training command with loram registered.

Frameworks that can't be edited accept the string because a `sitecustomize` on the path of the
command, and of every Python process it starts (accelerate, torchrun), registers LoRAM as soon as
peft is imported. Nothing is imported before that. The command's Python must have loram installed.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from loram.peft.register import DEFAULT_INIT

__all__ = ["environment"]

HOOKS = Path(__file__).parent / "hooks"


def environment(init: str | None, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment in which a command knows loram.

    Args:
        init: what every `LoraConfig` left at its default init asks for; None leaves it alone.
        base: the environment to start from.
    """
    env = dict(base)
    known = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    wanted = [str(HOOKS), *(p for p in known if p != str(HOOKS))]
    env["PYTHONPATH"] = os.pathsep.join(wanted)
    if init is None:
        env.pop(DEFAULT_INIT, None)
    else:
        env[DEFAULT_INIT] = init
    return env
