"""The peak of a run is its own, not that of what its process did before."""

import sys

import pytest
import torch

from loram.study.memory import peak, reset_peak

MB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(torch.cuda.is_available(), reason="of the process")
def test_a_peak_before_the_reset_is_forgotten():
    large = torch.ones(300 * MB // 4)
    cycle = [large]
    cycle.append(cycle)  # as a Trainer and its callbacks are: only a collection frees it
    before = peak()
    assert before is not None
    assert before > large.nbytes
    del large, cycle
    reset_peak()
    base = peak()
    assert base is not None
    assert base < before - 200 * MB
    small = torch.ones(100 * MB // 4)
    after = peak()
    assert after is not None
    assert after - base == pytest.approx(small.nbytes, rel=0.2)
