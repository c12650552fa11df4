"""y + s(BA − B⁰A⁰)x: against the dense product in float64, and what autograd sees of it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loram.bases import dst
from loram.product import Anchor, add_update, anchored


def make(n: int, m: int, r: int, *, dtype=torch.float64, anchor: bool = True, seed: int = 0):
    """dB, dA and an anchor (Φ in float32 at least, as a record gives it)."""
    g = torch.Generator().manual_seed(seed)
    dB, dA = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((n, r), (r, m)))
    phi = torch.promote_types(dtype, torch.float32)
    point = Anchor(
        beta=torch.tensor(0.7, dtype=torch.float64),
        phi_out=dst(n, r, dtype=phi),
        phi_in=dst(m, r, dtype=phi),
    )
    return (0.1 * dB).to(dtype), (0.1 * dA).to(dtype), point if anchor else None


def dense(dB: Tensor, dA: Tensor, scaling: float, anchor: Anchor | None) -> Tensor:
    """s(BA − B⁰A⁰) (n, m) in float64, as the definition has it."""
    dB, dA = dB.double(), dA.double()
    if anchor is None:
        return scaling * dB @ dA
    B0, A0 = (float(anchor.beta) * phi.double() for phi in (anchor.phi_out, anchor.phi_in))
    return scaling * ((B0 + dB) @ (A0.T + dA) - B0 @ A0.T)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    data=st.data(),
    scaling=st.floats(0.1, 4),
    batch=st.lists(st.integers(0, 3), max_size=3),
    anchor=st.booleans(),
)
def test_update_equals_the_dense_product_for_every_shape(n, m, data, scaling, batch, anchor):
    r = data.draw(st.integers(1, min(n, m)))
    dB, dA, point = make(n, m, r, anchor=anchor)
    x, y = torch.randn(*batch, m, dtype=torch.float64), torch.randn(*batch, n, dtype=torch.float64)
    expected = y + x @ dense(dB, dA, scaling, point).T
    got = add_update(y.clone(), x, dB, dA, scaling, point)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():  # few tokens are multiplied otherwise
        got = add_update(y.clone(), x, dB, dA, scaling, point)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_factors_without_an_anchor_are_returned_as_they_are():
    dB, dA, _ = make(5, 7, 3)
    assert anchored(dB, dA, None) == (dB, dA)


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [4, 1])
def test_zero_deviation_gives_y_bit_for_bit(anchor, dtype, tokens):
    dB, dA, point = make(6, 5, 3, dtype=dtype, anchor=anchor)
    y, x = torch.randn(tokens, 6, dtype=dtype), torch.randn(tokens, 5, dtype=dtype)
    nothing = torch.zeros_like(dB), torch.zeros_like(dA)
    assert torch.equal(add_update(y.clone(), x, *nothing, 2.0, point), y)
    with torch.no_grad():
        assert torch.equal(add_update(y.clone(), x, *nothing, 2.0, point), y)


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_few_tokens_over_a_base_of_another_dtype(anchor, dtype):
    dB, dA, point = make(48, 32, 8, dtype=torch.float32, anchor=anchor)
    y, x = torch.randn(2, 48, dtype=dtype), torch.randn(2, 32, dtype=dtype)
    expected = y.double() + x.double() @ dense(dB, dA, 0.5, point).T
    with torch.no_grad():
        got = add_update(y.clone(), x, dB, dA, 0.5, point)
    assert got.dtype == dtype
    # One rounding of the update and one of the sum, whatever the size of their parts.
    bound = torch.finfo(dtype).eps * (y.double().abs() + expected.abs()).max()
    assert float((got.double() - expected).abs().max()) <= float(bound)


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("scaling", [0.5, torch.tensor(0.5, dtype=torch.float64)])
@pytest.mark.parametrize("needed", ["yxBA", "BA", "B", "A", "x", "y"])
def test_gradients_equal_finite_differences(anchor, scaling, needed):
    dB, dA, point = make(4, 5, 2, anchor=anchor)
    y, x = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    for name, tensor in zip("yxBA", (y, x, dB, dA), strict=True):
        tensor.requires_grad_(name in needed)

    def function(y, x, dB, dA):
        return add_update(y.clone(), x, dB, dA, scaling, point)  # it may write into y

    assert torch.autograd.gradcheck(function, (y, x, dB, dA))


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("factors", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [torch.float32, torch.bfloat16])
def test_each_gradient_has_its_tensors_dtype_and_is_close_to_the_float64_oracle(
    anchor, factors, inputs
):
    dB, dA, point = make(48, 32, 4, dtype=factors, anchor=anchor)
    y = torch.randn(64, 48, dtype=torch.bfloat16)
    x = torch.randn(64, 32, dtype=inputs)
    got = [t.clone().requires_grad_() for t in (y, x, dB, dA)]
    weight = torch.randn(64, 48)
    out = add_update(got[0].clone(), *got[1:], 0.5, point)
    assert out.dtype == torch.bfloat16
    (out.float() * weight).sum().backward()
    exact = [t.double().requires_grad_() for t in (y, x, dB, dA)]
    update = dense(exact[2], exact[3], 0.5, point)
    expected = exact[0] + exact[1] @ update.T
    (expected * weight).sum().backward()
    assert ((out.double() - expected).norm() / expected.norm()).item() < 0.01
    for mine, theirs in zip(got, exact, strict=True):
        assert mine.grad.dtype == mine.dtype
        assert ((mine.grad.double() - theirs.grad).norm() / theirs.grad.norm()).item() < 0.02


def test_input_that_needs_no_gradient_still_trains_the_factors():
    dB, dA, point = make(6, 5, 3)
    dB.requires_grad_()
    dA.requires_grad_()
    x = torch.randn(4, 5, dtype=torch.float64)
    add_update(torch.zeros(4, 6, dtype=torch.float64), x, dB, dA, 1.0, point).sum().backward()
    B0, A0 = 0.7 * point.phi_out, 0.7 * point.phi_in.T
    G = torch.ones(4, 6, dtype=torch.float64)
    torch.testing.assert_close(dB.grad, G.T @ (x @ (A0 + dA).T))
    torch.testing.assert_close(dA.grad, (B0 + dB).T @ G.T @ x)
    assert x.grad is None


def test_no_graph_is_made_under_no_grad():
    dB, dA, point = make(6, 5, 3)
    dB.requires_grad_()
    with torch.no_grad():
        out = add_update(torch.zeros(4, 6).double(), torch.randn(4, 5).double(), dB, dA, 1.0, point)
    assert not out.requires_grad
    assert out.grad_fn is None


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant):
    dB, dA, point = make(6, 5, 3)
    W = torch.randn(6, 5, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)

    def layer(x, dB, dA):
        return add_update(F.linear(x, W), x, dB, dA, 1.5, point).tanh()

    gradients = []
    for run in (layer, lambda *a: checkpoint(layer, *a, use_reentrant=use_reentrant)):
        inputs = [t.detach().clone().requires_grad_() for t in (x, dB, dA)]
        run(*inputs).square().sum().backward()
        gradients.append([t.grad for t in inputs])
    for eager, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(eager, checkpointed)


def test_two_updates_of_one_output_add_up_forward_and_backward():
    first, second = make(6, 5, 2, seed=1), make(6, 5, 3, seed=2)
    W = torch.randn(6, 5, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    y = add_update(add_update(F.linear(x, W), x, *first[:2], 2.0, first[2]), x, *second[:2], 0.5)
    total = W + dense(*first[:2], 2.0, first[2]) + dense(*second[:2], 0.5, None)
    torch.testing.assert_close(y, x @ total.T)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(y) @ total)


def test_an_input_of_any_memory_layout_is_read_right():
    dB, dA, point = make(6, 5, 2)
    W = torch.randn(6, 5, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    total = W + dense(dB, dA, 1.0, point)
    for x in (
        torch.randn(5, 4, dtype=torch.float64).T,
        torch.randn(3, 4, 5, dtype=torch.float64).transpose(0, 1),
        torch.randn(2, 5, 3, 4, dtype=torch.float64).permute(0, 2, 3, 1),
        torch.randn(1, 5, dtype=torch.float64).expand(4, 5),
    ):
        for b in (None, bias):
            y = F.linear(x, W, b)
            expected = F.linear(x, total, b)
            torch.testing.assert_close(add_update(y, x, dB, dA, 1.0, point), expected)


def test_update_of_a_tiny_deviation_keeps_its_digits():
    """‖update‖ is 1e-6 of ‖B⁰A⁰‖: BA − B⁰A⁰ in float32 would keep one digit."""
    dB, dA, point = make(32, 24, 4, dtype=torch.float32)
    dB, dA = 1e-6 * dB, 1e-6 * dA
    left, right = anchored(dB, dA, point)
    expected = dense(dB, dA, 1.0, point)
    assert float((left @ right - expected).norm() / expected.norm()) < 1e-5
