"""Proposition 5 (arXiv 2507.06558) on a model's own gradients.

Under AAᵀ = BᵀB = I, ‖∇A‖ = ‖sBᵀG‖ and ‖∇B‖ = ‖sGAᵀ‖ are largest for the first r singular vectors of
G = ∂L/∂W, the directions of LoRA-One.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loram.bases import basis
from loram.schemes import lora_one, milora

R = 4
Factors = tuple[Tensor, Tensor]  # B (n, r) and A (r, m)


def orthonormal(B: Tensor, A: Tensor) -> Factors:
    return torch.linalg.qr(B)[0], torch.linalg.qr(A.T)[0].T


def random(W: Tensor, G: Tensor) -> Factors:
    n, m = W.shape
    generator = torch.Generator().manual_seed(n * m)
    return orthonormal(
        torch.randn(n, R, generator=generator, dtype=W.dtype),
        torch.randn(R, m, generator=generator, dtype=W.dtype),
    )


def on_basis(name: str) -> Callable[[Tensor, Tensor], Factors]:
    def choose(W: Tensor, G: Tensor) -> Factors:
        B, A = (basis(name, w, R, side=side, dtype=W.dtype) for side, w in enumerate(W.shape))
        return B, A.T

    return choose


def components(X: Tensor, start: int) -> Factors:
    U, _, Vh = torch.linalg.svd(X, full_matrices=False)
    return U[:, start : start + R], Vh[start : start + R]


def olora(W: Tensor, G: Tensor) -> Factors:
    Q, upper = torch.linalg.qr(W)
    return orthonormal(Q[:, :R], upper[:R])


def ours(G: Tensor) -> Factors:
    start = lora_one.factors(G, R)
    return orthonormal(start.B0, start.A0)


OTHERS: dict[str, Callable[[Tensor, Tensor], Factors]] = {
    "random": random,
    "dst": on_basis("dst"),
    "orthogonal": on_basis("orthogonal"),
    "pissa": lambda W, G: components(W, 0),
    "milora": lambda W, G: orthonormal(*milora.factors(W, R)[:2]),
    "olora": olora,
    "lora-ga's B": lambda W, G: components(G, R),
}


def norms(G: Tensor, chosen: Factors) -> tuple[float, float]:
    """‖∇A‖ and ‖∇B‖ at s = 1."""
    B, A = chosen
    return float((B.T @ G).norm()), float((G @ A.T).norm())


@pytest.fixture
def gradients(llama, ids) -> dict[str, Factors]:
    """(W, ∂L/∂W) of every linear layer, in float64."""
    model = llama().double()
    model(input_ids=ids, labels=ids).loss.backward()
    return {
        name: (module.weight.detach(), module.weight.grad)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


@pytest.mark.parametrize("name", OTHERS)
def test_singular_vectors_of_the_gradient_see_most_of_it_in_every_layer(gradients, name):
    assert len(gradients) == 15
    for layer, (W, G) in gradients.items():
        other = OTHERS[name](W, G)
        for factor in (other[0].T, other[1]):
            torch.testing.assert_close(factor @ factor.T, torch.eye(R).double())
        best, theirs = norms(G, ours(G)), norms(G, other)
        assert best[0] > theirs[0], layer
        assert best[1] > theirs[1], layer


def test_their_norm_is_that_of_the_first_singular_values(gradients):
    for _, G in gradients.values():
        bound = float(torch.linalg.svdvals(G)[:R].norm())
        assert norms(G, ours(G)) == pytest.approx((bound, bound), rel=1e-10)


def test_gradients_of_the_factors_are_those_of_autograd(gradients):
    """∇A = sBᵀG and ∇B = sGAᵀ (eq. 2), which the proposition is about."""
    _, G = gradients["model.layers.0.mlp.up_proj"]
    B, A = (factor.clone().requires_grad_() for factor in ours(G))
    (G * (3.0 * B @ A)).sum().backward()  # the loss to first order, at s = 3
    torch.testing.assert_close(A.grad, 3.0 * B.detach().T @ G)
    torch.testing.assert_close(B.grad, 3.0 * G @ A.detach().T)


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 10**6), data=st.data())
@settings(deadline=None, max_examples=60)
def test_no_orthonormal_factors_see_more(n, m, seed, data):
    r = data.draw(st.integers(1, min(n, m)))
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    G = torch.randn(n, m, **draw)
    bound = float(torch.linalg.svdvals(G)[:r].norm())
    found = norms(G, orthonormal(torch.randn(n, r, **draw), torch.randn(r, m, **draw)))
    assert max(found) <= bound * (1 + 1e-12)
