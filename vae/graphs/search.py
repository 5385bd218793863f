"""The search for the mode of the posterior inside of a graph.

The part before the steps, one step, and the part after them are traced as three graphs and joined by an ONNX ``Loop``.
"""

from collections.abc import Callable, Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from vae.graphs.export import program
from vae.graphs.onnx_loop import loop_graph
from vae.model import laplace
from vae.model.autoencoder import Vae
from vae.model.laplace import LogPosterior, SearchState
from vae.model.noise_precision import NoisePrecision
from vae.model.point_posterior import PointProblem, pose_points, posterior_given_points

MODE = ("z", "cost", "move", "gain")  # the parts of the state that ``laplace.end_of_search`` reads
_PRECISION = ("precision", "factors", "factor_covariance")


def search_graph(
    start: nn.Module,
    step: nn.Module,
    end: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    posed: Sequence[str],
    end_reads: Sequence[str],
    outputs: Sequence[str],
    free: Mapping[str, Mapping[int, str]],
    most_steps: int,
    until_still: bool = True,
    problem_inputs: Sequence[str] = (),
    start_outputs: Sequence[str] = (),
) -> onnx.ModelProto:
    """The graph of a search.

    Args:
        start: from the inputs to the problem, outputs of the graph if there are any, and the parts of the state.
        step: from the problem and the parts of the state to whether another step follows, and the parts after it.
        end: from the problem and the parts of the state that it reads to the outputs.
        inputs: examples by name.
        posed: names of the parts of the problem.
        end_reads: names of the parts of the state that the end reads.
        outputs: names of the outputs.
        free: names of the free axes of inputs, the problem and parts of the state by name and axis.
        most_steps: the largest number of steps.
        until_still: whether the search ends when the mode moves no more; else it takes all steps.
        problem_inputs: names of inputs that belong to the problem, before the parts that the start poses.
        start_outputs: names of outputs of the graph that the start makes, after those of the end.
    """
    with torch.no_grad():
        made = [part.clone() for part in start(*inputs.values())]
    problem = {name: inputs[name] for name in problem_inputs} | dict(zip(posed, made, strict=False))
    state = SearchState(*made[-len(SearchState._fields) :])._asdict()
    now = {f"now_{name}": part for name, part in state.items()}
    last = {f"last_{name}": state[name] for name in end_reads}
    free = {**free, **{f"{when}_{name}": free[name] for when in ("now", "last") for name in state if name in free}}
    first = [*posed, *start_outputs, *(f"first_{name}" for name in state)]
    after = ["moving", *(f"next_{name}" for name in state)]
    return loop_graph(
        program(start, inputs, outputs=first, free=free),
        program(step, problem | now, outputs=after if until_still else after[1:], free=free),
        program(end, problem | last, outputs=list(outputs), free=free),
        state=SearchState._fields,
        condition="moving" if until_still else None,
        most=most_steps,
    )


class Step(nn.Module):
    """The problem and the state before a step -> whether another step follows, and the state after it.

    Args:
        model: a part of this module, which the exporter must know.
        posterior: the log posterior of the problem with these parts.
        until_still: whether to say if another step follows.
    """

    def __init__(
        self, model: Vae, posterior: Callable[[Sequence[Tensor]], LogPosterior], *, until_still: bool = True
    ) -> None:
        super().__init__()
        self.model, self.posterior, self.until_still = model, posterior, until_still

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Whether another step follows, and the parts of the state."""
        count = len(SearchState._fields)
        after = laplace.search_step(self.posterior(parts[:-count]), SearchState(*parts[-count:]))
        return (after.moving, *after) if self.until_still else tuple(after)


def precision_names(model: Vae) -> tuple[str, ...]:
    """Names of the parts of the precision of known points or quotes."""
    return _PRECISION if model.architecture.residual_factors else _PRECISION[:1]


def precision_parts(precision: NoisePrecision) -> tuple[Tensor, ...]:
    """The parts of a precision."""
    return tuple(part for part in precision if part is not None)


def pose_data(model: Vae, x: Tensor, mask: Tensor | None) -> tuple[PointProblem, Tensor]:
    """``pose_points`` of surfaces [batch, tenor, node] or vectors [batch, D] and their mask, in the model's dtype."""
    dtype = model.center.dtype
    missing = None if mask is None else 1.0 - mask.flatten(1).to(dtype)
    return pose_points(model, x.flatten(1).to(dtype), missing)


def point_step(model: Vae, *, until_still: bool = True) -> Step:
    """A step given points."""
    return Step(model, lambda parts: posterior_given_points(model, point_problem(parts)), until_still=until_still)


class PointStart(nn.Module):
    """Vectors and their mask -> the problem that known points pose, and the state before the first step."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """The parts of the problem, and those of the state."""
        problem, start = pose_data(self.model, x, mask)
        state = laplace.start_search(posterior_given_points(self.model, problem), start)
        precision = () if problem.precision is None else precision_parts(problem.precision)
        return problem.points, problem.known, *precision, *state


def point_names(model: Vae) -> tuple[str, ...]:
    """Names of the parts of the problem that known points pose."""
    return ("points", "known", *(precision_names(model) if model.noise_is_fixed else ()))


def point_problem(parts: Sequence[Tensor]) -> PointProblem:
    """The problem from its parts."""
    points, known, *precision = parts
    return PointProblem(points, known, NoisePrecision(*precision) if precision else None)
