"""``completer.onnx``: from quotes anywhere inside the grid to the complete surface with its standard deviations.

Levenberg-Marquardt steps run inside the graph until they converge, see ``vae.graphs.search``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vae.graphs.export import finished
from vae.graphs.search import MODE, Step, precision_names, precision_parts, search_graph
from vae.model import completion, laplace
from vae.model.autoencoder import Vae
from vae.model.completion import QuoteProblem, Quotes
from vae.model.laplace import LatentPrior
from vae.model.noise_precision import NoisePrecision
from vae.model.quote_weights import QuoteInterpolator
from vae.surface.grid import Grid
from vae.surface.reading_error import ReadingError

_POSED = ("quoted", "weights", "reading")  # then the precision and, where a market may be named, the prior
_PRIOR = ("prior_mean", "prior_precision")
OUTPUTS = ("surface", "std", "z", "fitted", "fitted_std", "misfit", "p_value")
MEMORY_OUTPUTS = ("coordinates", "covariance", "quote_weights", "quote_precision")  # that a law of motion needs


def completer_graph(
    model: Vae,
    grid: Grid,
    metadata: Mapping[str, str],
    priors: Sequence[LatentPrior] = (),
    reading: ReadingError | None = None,
    *,
    memory: bool = False,
) -> bytes:
    """``completer.onnx``: inputs log_moneyness, tenor, iv and weight, all [quote], in single precision.

    Outputs are the surface and its standard deviations [tenor, node], the most probable latents z [latent], the vols of
    the surface at the quotes and their standard deviations without noise, both [quote], the misfit of the quotes and
    the share of held-out surfaces whose misfit is larger, both [1], and whether a quote lies inside the grid, [quote].
    With ``memory`` also what the quotes say of the coordinates of the surface, mean [R] and covariance [R, R], and how
    the quotes depend on it: weights of the squared vols of the points in those of the quotes, [quote, D], and
    precisions of the quotes in the units of the model, [quote].

    Args:
        model: in single precision.
        grid: of the surfaces.
        metadata: of the file.
        priors: the distribution of the latents in each market; the graph then has an input ``market`` [1], its place
            among them or -1 for N(0, I).
        reading: errors of reading surfaces between the points of the grid; none by default.
        memory: whether to add ``MEMORY_OUTPUTS``.
    """
    examples = {"log_moneyness": 0.0, "tenor": float(grid.tenors[0]), "iv": 0.2, "weight": 1.0}
    quotes = {name: torch.full((3,), value) for name, value in examples.items()}
    inputs = quotes | ({"market": torch.full((1,), -1)} if priors else {})
    free = {name: {0: "quote"} for name in (*quotes, "quoted", "reading")}
    free |= {name: {1: "quote"} for name in ("weights", "precision", "factors")}
    graph = search_graph(
        Start(model, grid, priors, reading),
        quote_step(model),
        End(model, grid, memory=memory),
        inputs,
        problem_inputs=["tenor"],
        posed=(*_POSED, *precision_names(model), *(_PRIOR if priors else ())),
        start_outputs=["used"],
        end_reads=MODE,
        outputs=(*OUTPUTS, *(MEMORY_OUTPUTS if memory else ())),
        free=free,
        most_steps=completion.MOST_STEPS,
    )
    return finished(graph, metadata)


def quote_step(model: Vae) -> Step:
    """A step given quotes."""
    return Step(model, lambda parts: completion.posterior_given_quotes(model, _problem(model, parts)))


def _problem(model: Vae, parts: Sequence[Tensor]) -> QuoteProblem:
    """The problem from its parts."""
    tenor, quoted, weights, reading, *others = parts
    count = len(precision_names(model))
    precision, prior = NoisePrecision(*others[:count]), others[count:]
    return QuoteProblem(quoted, tenor, weights, reading, precision, LatentPrior(*prior) if prior else None)


class Start(nn.Module):
    """Quotes -> the inputs of the steps, which quotes are used, and the state before the first step.

    The priors of the markets are rows of two tables, whose last row is N(0, I), for no market.
    """

    means: Tensor
    precisions: Tensor

    def __init__(
        self, model: Vae, grid: Grid, priors: Sequence[LatentPrior] = (), reading: ReadingError | None = None
    ) -> None:
        super().__init__()
        self.model = model
        if priors:
            identity = torch.eye(model.architecture.latents, dtype=torch.float64)
            free = LatentPrior(torch.zeros_like(identity[0]), identity)
            for name, rows in zip(("means", "precisions"), zip(*priors, free, strict=True), strict=True):
                self.register_buffer(name, torch.stack(rows))
        self.reader = QuoteInterpolator(grid, reading).to(model.center)

    def forward(
        self, log_moneyness: Tensor, tenor: Tensor, iv: Tensor, weight: Tensor, market: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The problem (its prior where there are markets), which quotes are used, and the parts of the state."""
        quotes = Quotes(log_moneyness, tenor, iv, weight)
        problem, start, weights = completion.prepare_quotes(self.model, self.reader, quotes)
        if market is not None:
            prior = LatentPrior(self.means[market].squeeze(0), self.precisions[market].squeeze(0))
            problem = problem._replace(prior=prior)
        state = laplace.start_search(completion.posterior_given_quotes(self.model, problem), start)
        return (
            problem.quoted,
            problem.weights,
            problem.reading,
            *precision_parts(problem.precision),
            *(problem.prior or ()),
            weights.inside,
            *state,
        )


class End(nn.Module):
    """The problem and the end of the search -> the surface."""

    def __init__(self, model: Vae, grid: Grid, *, memory: bool = False) -> None:
        super().__init__()
        self.model, self.shape, self.memory = model, grid.shape, memory

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """All of ``OUTPUTS``, and with ``memory`` of ``MEMORY_OUTPUTS``."""
        problem, end = _problem(self.model, parts[: -len(MODE)]), laplace.end_of_search(*parts[-len(MODE) :])
        mode, errors = completion.end_at_quotes(self.model, problem, end)
        found = completion.completion_at(self.model, mode, errors)
        fitted = completion.vols_at(problem.weights, problem.tenor, found.mean).squeeze(0)
        deviation = completion.std_at_quotes(problem, mode, errors).squeeze(0).to(fitted)
        if self.model.architecture.transform == "log":
            deviation = deviation * fitted
        surface, std = (part.squeeze(0).unflatten(0, self.shape) for part in (found.mean, found.std))
        p_value = self.model.calibration.p_value(mode.misfit, mode.number).to(fitted)
        outputs = surface, std, mode.z.squeeze(0), fitted, deviation, found.misfit, p_value
        if not self.memory:
            return outputs
        belief = completion.belief_at(self.model, mode, errors)
        weights = (problem.weights / problem.tenor).mT
        return *outputs, *(part.squeeze(0) for part in belief), weights, problem.precision.diagonal.squeeze(0)
