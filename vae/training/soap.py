"""The optimiser SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which learns the curvature of each layer.

On surfaces with noise of a basis point it needs a third of Adam's steps, and still improves where Adam stalls.

Reference: Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade (2024), "SOAP: improving and stabilizing
Shampoo using Adam", arXiv:2409.11321, algorithm 3.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from vae.training.captured import Captured
from vae.training.data_parallel import Replicas

_MEAN_DECAY, _VARIANCE_DECAY, _FACTOR_DECAY = 0.95, 0.98, 0.95
_EPSILON = 1e-8
_STEPS_BETWEEN_BASES = 10
_LARGEST_SIDE = 512  # a longer side of a weight keeps its own basis: its factor would cost more than it gives


class Soap(torch.optim.Optimizer):
    """Steps on weights [out, in] in the eigenbases of G G' and G'G, running means over gradients G; Adam on the rest.

    The first moment is kept in the eigenbasis and rotated when the basis is renewed. All state is tensors. Each step
    shrinks the parameters of a group by its ``decay`` times the learning rate. With ``captured`` the parameters are on
    a CUDA device, each step's work is recorded there, and gradients must stay in the same memory after a few steps.

    Of several ``replicas``, which have the same gradients, each moves the parameters that it owns and has their state
    alone, until ``gather``.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        captured: bool = False,
        replicas: Replicas = Replicas(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(parameters, {"lr": lr, "decay": 0.0})
        self._captured, self._replicas = captured, replicas
        self._owner: dict[Tensor, int] = {}  # rank of the process that moves a parameter
        self._recorded: dict[tuple[bool, ...], Captured] = {}  # by the parameters whose bases are renewed

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step along the gradients; parameters without one stay."""
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        counts = [self._count(parameter) for parameter, _ in moved]
        sizes = [_StepSizes.of(count, group) for count, (_, group) in zip(counts, moved, strict=True)]
        renewed = tuple(count % _STEPS_BETWEEN_BASES == 0 for count in counts)
        parameters = [parameter for parameter, _ in moved]
        if self._captured:
            self._start_recorded(parameters, sizes, renewed)
            return
        owners = self._owners(parameters)
        mine = [n for n, owner in enumerate(owners) if owner == self._replicas.rank]
        self._steps([parameters[n] for n in mine], [sizes[n] for n in mine], [renewed[n] for n in mine])
        self._replicas.share(parameters, owners)

    @torch.no_grad()
    def gather(self) -> None:
        """Give each of several processes, which all call this, the state of all parameters."""
        tensors: list[Tensor] = []
        owners: list[int] = []
        for parameter, owner in self._owner.items():
            parts = [value for name, value in self.state[parameter].items() if name != "step"]  # which all count
            tensors += parts
            owners += [owner] * len(parts)
        if tensors:
            self._replicas.share(tensors, owners)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state, whose tensors are new: what was recorded reads others."""
        super().load_state_dict(state_dict)
        self._recorded.clear()

    def _owners(self, parameters: Sequence[Tensor]) -> list[int]:
        """The owner of each parameter; a new one goes to the process with the least work, the heaviest first."""
        work = [0] * self._replicas.count
        for parameter, owner in self._owner.items():
            work[owner] += _work(parameter)
        for parameter in sorted((p for p in parameters if p not in self._owner), key=_work, reverse=True):
            owner = self._owner[parameter] = work.index(min(work))
            work[owner] += _work(parameter)
        return [self._owner[parameter] for parameter in parameters]

    def _count(self, parameter: Tensor) -> int:
        """The number of the step that a parameter takes now, from 1."""
        state = self.state[parameter]
        if not state:
            state.update(_first_state(_gradient(parameter)))
        state["step"] += 1
        return int(state["step"])

    def _start_recorded(
        self, parameters: list[Tensor], sizes: "list[_StepSizes[float]]", renewed: tuple[bool, ...]
    ) -> None:
        if renewed not in self._recorded:

            def steps(numbers: Tensor) -> tuple[Tensor, ...]:
                self._steps(parameters, [_StepSizes(*row.unbind()) for row in numbers], renewed)
                return ()

            self._recorded[renewed] = Captured(steps)
        self._recorded[renewed](torch.tensor(sizes).to(parameters[0].device))

    def _steps(self, parameters: Sequence[Tensor], sizes: "Sequence[_StepSizes[Any]]", renewed: Sequence[bool]) -> None:
        for parameter, size, renews in zip(parameters, sizes, renewed, strict=True):
            self._step(parameter, _gradient(parameter), size, renews=renews)

    def _step(self, parameter: Tensor, gradient: Tensor, size: "_StepSizes[Any]", *, renews: bool) -> None:
        """Move a parameter and its state, all in the memory in which they are."""
        state = self.state[parameter]
        parameter.mul_(size.kept)
        turned = _turn(gradient, state)
        state["first"].lerp_(turned, 1.0 - _MEAN_DECAY)
        state["second"].lerp_(turned.square(), 1.0 - _VARIANCE_DECAY)
        deviation = (state["second"] / size.variance_share).sqrt_().add_(_EPSILON)
        update = _turn_back(state["first"] / deviation, state)
        if isinstance(size.rate, Tensor):
            parameter.addcmul_(update, size.rate)
        else:
            parameter.add_(update, alpha=size.rate)
        for side, factor in _factors(gradient).items():
            state[f"{side}_factor"].lerp_(factor, 1.0 - _FACTOR_DECAY)
            if renews:
                self._keep(state, _renewed_basis(state, side))

    def _keep(self, state: dict[str, Tensor], renewed: dict[str, Tensor]) -> None:
        """Replace parts of a state; recorded work reads and writes the memory with which it began."""
        for name, value in renewed.items():
            if self._captured:
                state[name].copy_(value)
            else:
                state[name] = value


_Number = TypeVar("_Number", float, Tensor)


class _StepSizes(NamedTuple, Generic[_Number]):
    """Factors of a step.

    Attributes:
        kept: share of the parameter.
        rate: of the update, negative.
        variance_share: of the running mean of squares, that the gradients so far have filled.
    """

    kept: _Number
    rate: _Number
    variance_share: _Number

    @staticmethod
    def of(count: int, group: dict[str, Any]) -> "_StepSizes[float]":
        """Of the step of a group with this number, from 1."""
        rate, decay = group["lr"], group["decay"]
        return _StepSizes(1.0 - rate * decay, -rate / (1.0 - _MEAN_DECAY**count), 1.0 - _VARIANCE_DECAY**count)


def _gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter that has one."""
    return parameter.grad  # type: ignore[return-value]


def _first_state(gradient: Tensor) -> dict[str, Tensor]:
    """Moments of zero and the eigenbases of the first gradient; the step counter is on the CPU, where it is read."""
    state = {
        "step": torch.zeros((), dtype=torch.float32),
        "first": torch.zeros_like(gradient),
        "second": torch.zeros_like(gradient),
    }
    for side, factor in _factors(gradient).items():
        state[f"{side}_factor"] = factor
        state[f"{side}_basis"] = torch.linalg.eigh(factor).eigenvectors.flip(1).contiguous()
    return state


def _work(parameter: Tensor) -> int:
    """Multiplications of a step, up to a factor: a product with the basis of each side."""
    return parameter.numel() * (1 + sum(side for side in parameter.shape if side <= _LARGEST_SIDE))


def _factors(gradient: Tensor) -> dict[str, Tensor]:
    """G G' (left) and G'G (right) of a matrix, without those of sides that are too long; none for a vector."""
    if gradient.ndim != 2:
        return {}
    sides = {"left": gradient, "right": gradient.T}
    return {side: g @ g.T for side, g in sides.items() if len(g) <= _LARGEST_SIDE}


def _turn(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Rotates values into the eigenbasis."""
    if "left_basis" in state:
        values = state["left_basis"].T @ values
    return values @ state["right_basis"] if "right_basis" in state else values


def _turn_back(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Rotates values out of the eigenbasis."""
    if "left_basis" in state:
        values = state["left_basis"] @ values
    return values @ state["right_basis"].T if "right_basis" in state else values


def _renewed_basis(state: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    """One step of orthogonal iteration towards the eigenvectors, largest eigenvalue first; the moments follow."""
    old, axis = state[f"{side}_basis"], 0 if side == "left" else 1
    image = state[f"{side}_factor"] @ old
    order = (old * image).sum(0).argsort(descending=True, stable=True)
    new = torch.linalg.qr(image[:, order]).Q
    change = new.T @ old
    first = state["first"]
    return {
        f"{side}_basis": new,
        "first": change @ first if side == "left" else first @ change.T,
        "second": state["second"].index_select(axis, order),
    }
