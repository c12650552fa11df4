"""Every method of the paper, and our ablations of it, as rows of one table.

    >>> METHODS["lora+"].lr_ratio
    4.0

A method is an initialisation, a scaling rule and an optimiser rule. What PEFT implements is PEFT's;
MiLoRA, LoRA-One, LoRAM and its tracking mode are ours. A new method is a file in `loram.schemes` or
in PEFT, and a row here.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal

from loram.bases import BASES

__all__ = ["METHODS", "Base", "Data", "Method", "UnknownMethodError", "custom", "named"]

Data = Literal["inputs", "gradients"]
"""What a method reads of a calibration stream: layer inputs, or gradients of the loss."""

Base = Literal["kept", "rewritten", "trained"]
"""What becomes of the pretrained weights."""


class UnknownMethodError(ValueError):
    """No row has this name; the message lists near ones."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        name: as `loram train --method` takes it.
        what: the scheme in one line.
        init: PEFT's `init_lora_weights`; None for full fine-tuning, which has no adapter.
        paper: arXiv id.
        base: the pretrained weights are kept, rewritten at the start, or trained.
        rslora: s = α/√r instead of α/r.
        lr_ratio: learning rate of B over that of A.
        data: what it needs of a calibration stream, or None.
        settings: of PEFT's sub-config for this `init`.
    """

    name: str
    what: str
    init: str | bool | None
    paper: str
    base: Base = "kept"
    rslora: bool = False
    lr_ratio: float = 1.0
    data: Data | None = None
    settings: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def by(self) -> str:
        """Whose implementation it is."""
        if self.init is None:
            return "-"
        ours = isinstance(self.init, str) and self.init.startswith(_OURS)
        return "loram" if ours else "PEFT"

    @property
    def scaling(self) -> str:
        """The scaling rule, as the table prints it."""
        if self.init is None:
            return "-"
        return "α/√r" if self.rslora else "α/r"

    @property
    def optimizer(self) -> str:
        """The optimiser rule beyond one learning rate, as the table prints it."""
        return "-" if self.lr_ratio == 1 else f"η_B = {self.lr_ratio:g} η_A"


_OURS = ("loram", "milora", "lora_one")
_LORA, _RSLORA, _LORAP = "2106.09685", "2312.03732", "2402.12354"
_PISSA, _CORDA, _LORA_GA, _LORAM = "2404.02948", "2406.05223", "2407.05000", "2507.06558"


def _loram(name: str, what: str, options: str = "", **rule: Any) -> Method:
    """A row of ours in the deviation form."""
    return Method(name, what, f"loram({options})" if options else "loram", _LORAM, **rule)


def _tracking(reference: str, title: str, **rule: Any) -> Method:
    return _loram(
        f"loram-track-{reference.replace('_', '-')}",
        f"LoRAM with ν[B⁰A⁰] as {title} has it",
        f"gain=track:{reference}",
        **rule,
    )


_IPM, _KPM = (MappingProxyType({"corda_method": mode}) for mode in ("ipm", "kpm"))

_ROWS = (
    Method("full", "full fine-tuning, float32 master weights", None, "-", base="trained"),
    Method("lora", "A uniform (Kaiming), B zero", True, _LORA),
    Method("gaussian", "A normal with σ = 1/r, B zero", "gaussian", _LORA),
    Method("rslora", "LoRA with s = α/√r", True, _RSLORA, rslora=True),
    Method("lora+", "LoRA with a higher learning rate for B", True, _LORAP, lr_ratio=4.0),
    Method(
        "pissa", "first r singular components of W, by a full SVD", "pissa", _PISSA, "rewritten"
    ),
    Method(
        "pissa-fast",
        "PiSSA by a randomised SVD of 16 iterations",
        "pissa_niter_16",
        _PISSA,
        "rewritten",
    ),
    Method("milora", "last r singular components of W", "milora", "2406.09044", "rewritten"),
    Method("olora", "QR factors of W", "olora", "2406.01775", "rewritten"),
    Method("orthogonal", "A and B orthogonal to each other, BA = 0", "orthogonal", "-"),
    Method(
        "eva",
        "A: right singular vectors of the layer's inputs, ranks redistributed; B zero",
        "eva",
        "2410.07170",
        data="inputs",
    ),
    Method(
        "corda-ipm",
        "components of W that the data's covariance weighs most",
        "corda",
        _CORDA,
        "rewritten",
        data="inputs",
        settings=_IPM,
    ),
    Method(
        "corda-kpm",
        "components of W that the data's covariance weighs least",
        "corda",
        _CORDA,
        "rewritten",
        data="inputs",
        settings=_KPM,
    ),
    Method(
        "lora-ga",
        "singular vectors of the gradient, A from the first r, B from the next",
        "lora_ga",
        _LORA_GA,
        "rewritten",
        data="gradients",
    ),
    Method(
        "lora-ga-rslora",
        "LoRA-GA with s = α/√r",
        "lora_ga",
        _LORA_GA,
        "rewritten",
        rslora=True,
        data="gradients",
    ),
    Method(
        "lora-one",
        "starts one rank-r gradient step away",
        "lora_one",
        "2502.01235",
        data="gradients",
    ),
    _loram("loram", "DST bases scaled by ν[W] and the log gain, as deviations"),
    Method(
        "loram-residual",
        "the same by the paper's Algorithm 1, W ← W − sB⁰A⁰",
        "loram_residual",
        _LORAM,
        "rewritten",
    ),
    _loram("loram-rslora", "LoRAM with s = α/√r", rslora=True),
    *(
        _loram(f"loram-{basis}", f"LoRAM on the basis {basis}", f"basis={basis}")
        for basis in BASES
        if basis != "dst"
    ),
    _loram("loram-spectral", "LoRAM with the exact spectral gain ρ[r]r/R", "gain=spectral"),
    _loram("loram-gain-0.2", "LoRAM with a gain of 0.2 on every layer", "gain=0.2"),
    _loram("loram-gain-1", "LoRAM with a gain of 1, the largest a spectrum can have", "gain=1"),
    _loram("loram-var", "LoRAM by the authors' statistic, variances for ν", "statistic=var"),
    _tracking("pissa", "PiSSA"),
    _tracking("milora", "MiLoRA"),
    _tracking("corda", "CorDA (IPM)", data="inputs"),
    _tracking("lora_ga", "LoRA-GA", data="gradients"),
)

METHODS: MappingProxyType[str, Method] = MappingProxyType({row.name: row for row in _ROWS})
"""The rows by name, in the table's order."""


def named(name: str) -> Method:
    """The row of a name, in any case.

    Raises:
        UnknownMethodError: there is none.
    """
    method = METHODS.get(name.strip().lower())
    if method is None:
        near = get_close_matches(name.strip().lower(), METHODS, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownMethodError(f"unknown method {name!r}.{hint} Known: {', '.join(METHODS)}")
    return method


def custom(init: str, *, rewrites: bool, tracked: str | None) -> Method:
    """A row for LoRAM with options of the user's own.

    Args:
        init: the string, which is also its name.
        rewrites: the base.
        tracked: the initialisation whose magnitude it follows, if any.
    """
    data: Data | None = next((row.data for row in METHODS.values() if row.init == tracked), None)
    base: Base = "rewritten" if rewrites else "kept"
    return Method(init, "LoRAM with options", init, _LORAM, base, data=data)
