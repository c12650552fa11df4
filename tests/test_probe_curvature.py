"""λ_max by Lanczos against dense Hessians in float64; LoRAM's product differentiated twice."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import loram  # noqa: F401 - registers
from loram.probe import largest_curvature
from loram.product import add_update, twice_differentiable


def test_ends_of_the_spectrum_of_a_quadratic():
    g = torch.Generator().manual_seed(0)
    H = torch.randn(30, 30, generator=g, dtype=torch.float64)
    H = H + H.T
    x, y = (torch.ones(k, dtype=torch.float64, requires_grad=True) for k in (12, 18))

    def loss():
        z = torch.cat([x, y])
        return 0.5 * z @ H @ z

    found = largest_curvature(loss, [x, y], iterations=50, tolerance=1e-10)
    values = torch.linalg.eigvalsh(H)
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-9)
    early = largest_curvature(loss, [x, y], iterations=5, tolerance=0)
    assert early.iterations == 5
    assert early.largest <= float(values[-1]) + 1e-12
    assert float((values - early.largest).abs().min()) <= early.error
    assert x.grad is None


def test_a_spectrum_with_few_values_ends_early():
    """The Krylov space is complete after two products."""
    H = torch.diag(torch.tensor([3.0] * 5 + [-1.0] * 5, dtype=torch.float64))
    x = torch.ones(10, dtype=torch.float64, requires_grad=True)
    found = largest_curvature(lambda: 0.5 * x @ H @ x, [x], tolerance=0)
    assert found.largest == pytest.approx(3)
    assert found.smallest == pytest.approx(-1)
    assert found.iterations <= 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 4)
        self.double()

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


@pytest.mark.parametrize("init", [True, "loram", "loram_residual"])
def test_the_hessian_of_an_adapter_is_the_dense_one(init):
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["a", "b"], init_lora_weights=init)
    model = get_peft_model(Net(), config, autocast_adapter_dtype=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.data += 0.1 * torch.randn_like(p)
    x, y = torch.randn(9, 6, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)

    def loss():
        return (model(x) - y).square().mean()

    found = largest_curvature(loss, model, iterations=100, tolerance=1e-9)
    assert all(p.grad is None for p in trained)
    flat = torch.cat([p.detach().reshape(-1) for p in trained])

    def gradient(values):
        for p, part in zip(trained, values.split([p.numel() for p in trained]), strict=True):
            p.data = part.view_as(p)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(), trained)])

    eps = 1e-6
    H = torch.stack(
        [
            (gradient(flat + eps * e) - gradient(flat - eps * e)) / (2 * eps)
            for e in torch.eye(len(flat), dtype=torch.float64)
        ]
    )
    values = torch.linalg.eigvalsh((H + H.T) / 2)
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-6)
    assert found.smallest == pytest.approx(float(values[0]), rel=1e-4, abs=1e-4)


def test_attention_is_differentiated_twice(llama, ids):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="loram")
    model = get_peft_model(llama(), config)
    found = largest_curvature(lambda: model(input_ids=ids, labels=ids).loss, model, iterations=8)
    assert found.largest > 0
    model(input_ids=ids, labels=ids).loss.backward()  # training goes on as before


@pytest.mark.parametrize("anchored", [False, True])
def test_the_product_is_the_same_and_has_second_derivatives(anchored):
    from test_product import make

    dB, dA, anchor = make(5, 4, 2, anchor=anchored)
    dB, dA = dB.requires_grad_(), dA.requires_grad_()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 5, dtype=torch.float64)

    def run(dB, dA, x):
        with twice_differentiable():
            return add_update(y.clone(), x, dB, dA, 0.5, anchor)

    torch.testing.assert_close(run(dB, dA, x), add_update(y.clone(), x, dB, dA, 0.5, anchor))
    assert torch.autograd.gradgradcheck(run, (dB, dA, x))
    once = add_update(y.clone(), x, dB, dA, 0.5, anchor).square().sum()
    (grad,) = torch.autograd.grad(once, dA, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_the_block_ends_also_when_it_fails():
    from loram import product

    with pytest.raises(KeyError), twice_differentiable():
        raise KeyError
    assert product._plain == 0


@pytest.mark.parametrize(
    ("loss", "trains", "message"),
    [
        (lambda x: x.square().sum(), False, "nothing to vary"),
        (lambda x: x, True, "finite scalar loss, got shape"),
        (lambda x: (x * torch.inf).sum(), True, "finite scalar loss, got inf"),
        (lambda x: torch.ones(()), True, "does not depend"),
    ],
)
def test_losses_that_have_no_hessian_are_refused(loss, trains, message):
    x = torch.ones(3, requires_grad=trains)
    with pytest.raises(ValueError, match=message):
        largest_curvature(lambda: loss(x), [x])


def test_no_iterations_are_refused_and_a_linear_loss_is_flat():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="iterations ≥ 1, got 0"):
        largest_curvature(lambda: x.sum(), [x], iterations=0)
    assert largest_curvature(lambda: x.sum(), [x]).largest == 0
