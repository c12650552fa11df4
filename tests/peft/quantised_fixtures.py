"""Fixtures of the tests of quantised layers; not a conftest, which would hide the one above."""

from pathlib import Path

import pytest
from quantised_bases import Backend, pretend_gptqmodel, save_llama


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama that every backend can quantise."""
    return save_llama(tmp_path_factory.mktemp("models") / "wide")


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A row of `quantised_bases.BACKENDS`; see `each_backend`."""
    if request.param.name == "gptq":
        pretend_gptqmodel(monkeypatch)
    return request.param
