"""Quantised layers that LoRAM can't go on: refused in both forms, before any change."""

from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from quantised_bases import (
    TARGETS,
    BaseQuantLinear,
    TorchLinear,
    plain,
    pretend_gptqmodel,
    replaced,
    torchao_of,
)
from small import FORMS, lora_config, nothing_changes
from torch import Tensor, nn

from loram import LoramError
from loram.peft import quantised
from loram.peft.kinds import Site, kind_of
from loram.peft.spec import parse

pytest_plugins = ("quantised_fixtures",)

both = pytest.mark.parametrize("form", FORMS)


def stand_in(package: str, name: str, parent: type[nn.Module] = nn.Linear) -> nn.Module:
    """A layer of a class that says it is `package`'s."""
    return type(name, (parent,), {"__module__": f"{package}.somewhere"})(4, 4)


FOREIGN = [
    pytest.param(row, name, id=f"{row.package} {name}")
    for row in quantised.FOREIGN
    for name in row.classes
]


@both
@pytest.mark.parametrize(("row", "name"), FOREIGN)
def test_layers_that_peft_adapts_by_itself(row: quantised.Foreign, name: str, form: str) -> None:
    model = nn.ModuleDict({"layer": stand_in(row.package, name), "other": nn.Linear(4, 4)})
    with nothing_changes(model), pytest.raises(LoramError) as error:
        get_peft_model(model, lora_config(form, target_modules=["layer", "other"]))
    assert f"layer: {row.name}: {row.reason}" in str(error.value)
    assert "eave" in row.reason  # the way out


def test_a_class_is_foreign_by_its_package_not_by_its_name_alone() -> None:
    mine = stand_in("mine", "EetqLinear")
    assert kind_of(Site(mine)).name == "Linear"
    inherited = type("Custom", (type(stand_in("eetq", "EetqLinear")),), {"__module__": "mine"})
    assert kind_of(Site(inherited(4, 4))).name == "EETQ"


class Method(Enum):
    GPTQ = "gptq"
    AWQ = "awq"


class AwqLinear(TorchLinear):
    SUPPORTS_METHODS = (Method.AWQ,)


@both
def test_awq(form: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gptqmodel(monkeypatch)
    model = replaced(saved, AwqLinear, "gptq")
    with nothing_changes(model), pytest.raises(LoramError, match=r"q_proj: AWQ: PEFT computes"):
        get_peft_model(model, lora_config(form))


def test_a_gptq_kernel_that_keeps_its_weight(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gptqmodel(monkeypatch)
    model = replaced(saved, BaseQuantLinear, "gptq")
    with nothing_changes(model), pytest.raises(LoramError, match="BaseQuantLinear does not give"):
        get_peft_model(model, lora_config())


@both
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_fp8_weights(form: str, dtype: torch.dtype, saved: Path) -> None:
    model = plain(saved).requires_grad_(False)
    for name in TARGETS:
        for layer in (m for n, m in model.named_modules() if n.endswith(name)):
            layer.weight.data = layer.weight.data.to(dtype)
    with nothing_changes(model), pytest.raises(LoramError, match=r"q_proj: fp8 weight: .*code"):
        get_peft_model(model, lora_config(form))


def test_torchao_that_quantises_activations_passes_no_gradient_and_is_refused(saved: Path) -> None:
    pytest.importorskip("torchao")
    model = torchao_of("Int8DynamicActivationInt8WeightConfig")(saved)
    x = torch.randn(2, 64, requires_grad=True)
    assert not model.model.layers[0].self_attn.q_proj(x).requires_grad
    with pytest.raises(LoramError, match=r"passes no gradient.*Int8WeightOnlyConfig"):
        get_peft_model(model, lora_config())


def layer_with(weight: Any) -> SimpleNamespace:
    return SimpleNamespace(weight=weight)


def test_torchao_int4() -> None:
    weight = type("Int4Tensor", (), {})()  # torchao's own needs a package beside it
    assert "int4" in quantised.torchao_problem(layer_with(weight))


def test_torchao_weights_that_can_not_be_read() -> None:
    class Opaque:
        def dequantize(self) -> Tensor:
            raise NotImplementedError

    assert quantised.torchao_problem(layer_with(Opaque())) is None
    with pytest.raises(TypeError, match="does not dequantise a Opaque"):
        quantised.torchao(layer_with(Opaque()))


def test_the_list_of_what_is_supported_does_not_name_what_is_refused() -> None:
    model = nn.ModuleDict({"layer": nn.Bilinear(2, 2, 2)})
    with pytest.raises(LoramError, match="LoRAM goes on") as error:
        get_peft_model(model, lora_config(target_modules=["layer"]))
    assert "bitsandbytes 4-bit" in str(error.value)
    assert "AWQ" not in str(error.value)
    refused = kind_of(Site(stand_in("aqlm", "QuantizedLinear")))
    for form in FORMS:
        init = parse(form)
        assert refused.refusal(init)
        with pytest.raises(TypeError, match="AQLM"):
            refused.variant(init)


def test_gptqmodel_is_as_the_stand_in() -> None:
    pytest.importorskip("gptqmodel")
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear as Real
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear as Kernel

    assert issubclass(Kernel, Real)
    assert Real.__module__.startswith("gptqmodel.")
    assert callable(Kernel.dequantize_weight)
