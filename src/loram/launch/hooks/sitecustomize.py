"""Run by every Python process under `loram run`: registers LoRAM once peft is imported.

Stands alone: it must not import loram (hence peft, hence torch) into processes that use neither.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any


class _AfterPeft:
    """A finder that lets the others find `peft`, and adds a step after it is loaded.

    It stays: looking for peft is not importing it (Transformers looks first).
    """

    looking = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Spec of peft with a loader that registers LoRAM afterwards; None for all else."""
        if name != "peft" or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                load(module)
                try:
                    importlib.import_module("loram")
                except ModuleNotFoundError as error:
                    if error.name != "loram":
                        raise
                    raise ImportError(
                        f"loram run: {sys.executable} has peft but not loram; install it there"
                    ) from None

            spec.loader.exec_module = exec_module
        return spec


def _next_sitecustomize() -> None:
    """Run the environment's own sitecustomize, which this file stands in front of."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, _AfterPeft())
_next_sitecustomize()
