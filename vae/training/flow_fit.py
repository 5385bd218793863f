"""The fit of a flow to codes: maximum likelihood by SOAP, stopped where held-out codes become less likely."""

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae.model.flow import Flow, FlowShape
from vae.training.soap import Soap

FEWEST_ROWS = 5_000  # of a fit: with fewer a flow is no better than a mixture
_BATCH = 1024
_RATE = 1e-2  # peak of the cosine schedule
_WARMUP = 100  # steps
_CLIP = 5.0  # largest norm of the gradient, nats
_EPOCHS, _LEAST_STEPS, _MOST_STEPS = 50, 500, 1_500
_HELD_OUT = 0.1  # share of the codes, the last ones
_CHECKS, _PATIENCE = 30, 8  # looks at the held-out codes in a fit; so many without a gain end it


def fit_flow(codes: NDArray[np.float64], *, layers: int, seed: int, weights: NDArray[np.float64] | None = None) -> Flow:
    """The flow that makes the last codes [n, d] most likely on its way to the highest likelihood of the others.

    Also in double precision on the CPU. It depends on the seed, on torch and on the number of threads alone. Codes have
    ``weights`` [n] in any unit; all count alike by default.
    """
    count = len(codes) - max(1, round(_HELD_OUT * len(codes)))
    own, other = torch.from_numpy(codes).float().tensor_split([count])
    share = torch.ones(len(codes)) if weights is None else torch.from_numpy(weights / weights.mean()).float()
    own_share, other_share = share.tensor_split([count])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn from torch's global generator
        torch.manual_seed(seed)
        flow = Flow.of_codes(own, FlowShape(own.shape[1], layers))
    optimizer = Soap(flow.parameters(), _RATE)
    steps = min(max(_EPOCHS * len(own) // _BATCH, _LEAST_STEPS), _MOST_STEPS)
    best, best_weights, since = -math.inf, flow.state_dict(), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * _share(step, steps)
        rows = torch.randint(len(own), (_BATCH,), generator=generator)
        _step(flow, optimizer, own[rows], own_share[rows])
        if (step + 1) % max(1, steps // _CHECKS) == 0:
            with torch.no_grad():
                value = (other_share * flow.log_densities(other)).mean().item()
            if value > best:
                best, best_weights, since = value, copy.deepcopy(flow.state_dict()), 0
            elif (since := since + 1) == _PATIENCE:
                break
    flow.load_state_dict(best_weights)
    return flow.double().eval()


def _share(step: int, steps: int) -> float:
    """Learning rate in units of its peak."""
    return min(1.0, (step + 1) / _WARMUP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _step(flow: Flow, optimizer: torch.optim.Optimizer, codes: Tensor, share: Tensor) -> None:
    optimizer.zero_grad()
    loss = -(share * flow.log_densities(codes)).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(flow.parameters(), _CLIP)
    optimizer.step()
