import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import ClassVar

import pytest
import torch
from pytorch_optimizer import SOAP
from torch import Tensor

from vae.training.data_parallel import Replicas
from vae.training.soap import Soap


def test_layers_take_the_steps_of_another_implementation() -> None:
    """SOAP of the package pytorch_optimizer in float64, over three renewals of the bases.

    It differs in three details, which are set aside here: its first call only fills the preconditioner, whose running
    mean starts at 0 and not at the first value; and its epsilon is added before the bias is corrected. Up to the first
    renewal the two agree within 1e-8 while parameters move by 0.1. Then it takes the QR decomposition in float32, which
    leaves 1e-5.
    """
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(2, 64, 6, generator=generator, dtype=torch.float64)
    torch.manual_seed(4)
    ours = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6)).double()
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    soap = Soap(ours.parameters(), lr=3e-3)
    reference = SOAP(theirs.parameters(), lr=3e-3, betas=(0.95, 0.98), shampoo_beta=0.95, weight_decay=0.0)

    def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()

    def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
        pairs = zip(a.parameters(), b.parameters(), strict=True)
        return max((one - other).abs().max().item() for one, other in pairs)

    step(theirs, reference)
    for state in reference.state.values():
        state["GG"] = [factor / (1.0 - 0.95) if len(factor) else factor for factor in state["GG"]]
    for count in range(1, 36):
        reference.param_groups[0]["eps"] = 1e-8 * (1.0 - 0.98**count) ** 0.5
        step(ours, soap)
        step(theirs, reference)
        assert distance(ours, theirs) < (1e-8 if count <= 10 else 1e-5)
    assert distance(ours, start) > 0.1


@pytest.mark.gpu
def test_cuda_takes_the_steps_of_the_cpu() -> None:
    """Gradients of full rank in double precision: a gradient without it leaves eigenvectors to chance."""
    found = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(5)
        layer = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64, device=device))
        soap = Soap([layer], lr=0.01)
        for _ in range(25):
            layer.grad = torch.randn(6, 6, generator=generator, dtype=torch.float64).to(device)
            soap.step()
        found.append(layer.detach().cpu())
    torch.testing.assert_close(found[1], found[0], rtol=0.0, atol=1e-7)


@pytest.mark.gpu
def test_recorded_steps_are_those_that_are_not_recorded() -> None:
    """With renewed bases among them, rates that change, and a state that was saved and restored."""
    found = []
    for captured in (False, True):
        generator = torch.Generator().manual_seed(5)
        layers = [torch.nn.Parameter(torch.zeros(size, dtype=torch.float64, device="cuda")) for size in ((6, 4), (6,))]
        for layer in layers:
            layer.grad = torch.zeros_like(layer)
        soap = Soap(layers, lr=0.01, captured=captured)
        for step in range(65):
            if step == 50:
                soap.load_state_dict(soap.state_dict())
            soap.param_groups[0]["lr"] = 0.01 / (1 + step)
            for layer in layers:
                layer.grad.copy_(torch.randn(layer.shape, generator=generator, dtype=torch.float64))
            soap.step()
        found.append(torch.cat([layer.detach().ravel().cpu() for layer in layers]))
    torch.testing.assert_close(found[1], found[0], rtol=0.0, atol=1e-7)


def test_vectors_take_the_steps_of_adam() -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)) for _ in range(2))
    soap, adam = Soap([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01, betas=(0.95, 0.98))
    generator = torch.Generator().manual_seed(1)
    for _ in range(25):
        ours.grad = torch.randn(7, generator=generator, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        soap.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_curvature_of_a_layer_is_learned() -> None:
    """A quadratic in a matrix whose condition number is 1e4 in a turned basis: Adam is stuck where SOAP arrives."""
    generator = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    stiff = turn @ torch.diag(torch.logspace(0, -1, 6, dtype=torch.float64)) @ turn.T
    goal = torch.randn(6, 6, generator=generator, dtype=torch.float64)

    def distance(kind: type[torch.optim.Optimizer]) -> float:
        weight = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
        optimizer = kind([weight], lr=0.03)
        for step in range(600):
            for group in optimizer.param_groups:
                group["lr"] = 0.03 * (1.0 - step / 600)
            optimizer.zero_grad()
            (stiff @ (weight - goal) @ stiff).square().sum().backward()
            optimizer.step()
        return (weight.detach() - goal).norm().item()

    assert distance(Soap) < 0.05 * distance(torch.optim.Adam)


def test_decay_shrinks_the_parameters_of_its_group() -> None:
    kept, shrunk = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = Soap([{"params": [kept]}, {"params": [shrunk], "decay": 0.5}], lr=0.1)
    for parameter in (kept, shrunk):
        parameter.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(kept, torch.ones(3))
    torch.testing.assert_close(shrunk, torch.full((3,), 0.95))


def test_a_long_side_keeps_its_own_basis() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 600))
    optimizer = Soap([weight], lr=0.1)
    weight.grad = torch.ones(4, 600)
    optimizer.step()
    assert set(optimizer.state[weight]) == {"step", "first", "second", "left_factor", "left_basis"}


class Threads(Replicas):
    """Replicas that are threads of this process."""

    board: ClassVar[dict[int, list[Tensor]]] = {}
    barrier: ClassVar[Barrier] = Barrier(2, timeout=60)

    def share(self, tensors: Sequence[Tensor], owners: Sequence[int]) -> None:
        """Each copies what the other owns, and has nothing else of it."""
        self.board[self.rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait()
        for number, owner in enumerate(owners):
            tensors[number].copy_(self.board[owner][number])
        self.barrier.wait()


def test_replicas_divide_the_parameters_and_take_the_steps_of_one() -> None:
    """Over three renewals of the bases, in the bits of one process; `gather` gives each the whole state."""

    def trained(replicas: Replicas) -> Soap:
        generator = torch.Generator().manual_seed(3)
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((6, 5), (5,), (4, 6), (7, 5), (600, 2))]
        soap = Soap(parameters, lr=0.01, replicas=replicas)
        for _ in range(31):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            soap.step()
        return soap

    alone = trained(Replicas())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(trained, [Threads(0, 2), Threads(1, 2)])
        owned = [[owner == one._replicas.rank for owner in one._owner.values()] for one in (first, second)]
        for one in (first, second):
            for found, expected in zip(one.param_groups[0]["params"], alone.param_groups[0]["params"], strict=True):
                assert torch.equal(found, expected)
        states = [soap.state_dict()["state"] for soap in (first, second, alone)]
        idle = [sum(not state[n]["second"].any() for n in state) for state in states]
        list(pool.map(Soap.gather, [first, second]))
    assert owned[0] == [not mine for mine in owned[1]]
    assert [5 - sum(mine) for mine in owned] == idle[:2]
    assert 1 <= sum(owned[0]) <= 4
    for one in (first, second):
        for found, expected in zip(one.state.values(), alone.state.values(), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
