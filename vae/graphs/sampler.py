"""``sampler.onnx``: surfaces from a key, an offset and a count, with the random numbers made inside the graph.

A random number is a function of the key and of its position only. So row i is the same however a request is split, and
on every runtime. A row takes consecutive 32-bit words of Widynski's Squares. Its shifts and rotations are written as
divisions and products of 64-bit integers that wrap, for which CUDA has kernels. The first word selects a component of
the prior where this is a mixture; the others become normal numbers by the method of Box and Muller.

Reference: Widynski (2022), "Squares: a fast counter-based RNG", arXiv:2004.06278; Box, Muller (1958), "A note on the
generation of random normal deviates".
"""

import copy
import math
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, inliner, numpy_helper, parser
from torch import Tensor, nn

from vae.bundle import Layout
from vae.graphs import export
from vae.graphs.decoding import FoldedDecoder
from vae.graphs.flow_draws import FlowDraws
from vae.model import linear_systems
from vae.model.autoencoder import Vae
from vae.model.flow import Flow
from vae.model.intervals import interval_of
from vae.model.mixture import Mixture

_LARGEST_BELOW_ONE = 1.0 - 2.0**-24
_REACH, _FEW = 3.2, 5  # standard deviations, for so many dimensions or fewer

# Squares needs an odd key with irregular digits. These two turn any number, the user's key, into such a key.
KEYS = (0xC58EFD154CE32F6D, 0x548C9DECBCE65297)

_UNIFORM = """
<ir_version: 9, opset_import: ["": 18, "volvae": 1]>
uniform (uint64[1] key, int64[1] offset, int64[1] count) => (float[batch, words] uniform) {
  high = volvae.squares (key, first_key)
  low = volvae.squares (key, second_key)
  shifted = Mul (high, half)
  joined = Add (shifted, low)
  even = Mul (joined, two)
  own_key = Add (even, one)

  start = Squeeze (offset)
  length = Squeeze (count)
  stop = Add (start, length)
  step = Constant <value_int = 1> ()
  row = Range (start, stop, step)
  axis = Constant <value_ints = [1]> ()
  column = Unsqueeze (row, axis)
  place = Cast <to = 13> (column)
  first = Mul (place, words)
  counter = Add (first, place_in_row)
  word = volvae.squares (counter, own_key)

  number = Cast <to = 1> (word)
  scale = Constant <value = float[1] {2.3283064365386963e-10}> ()
  least = Constant <value = float[1] {1.1641532182693481e-10}> ()
  scaled = Mul (number, scale)
  uniform = Add (scaled, least)
}
<domain: "volvae", opset_import: ["": 18]>
squares (counter, key) => (word) {
  half = Constant <value = uint64[1] {4294967296}> ()
  y = Mul (counter, key)
  z = Add (y, key)
  square1 = Mul (y, y)
  sum1 = Add (square1, y)
  x1 = volvae.rotate (sum1)
  square2 = Mul (x1, x1)
  sum2 = Add (square2, z)
  x2 = volvae.rotate (sum2)
  square3 = Mul (x2, x2)
  sum3 = Add (square3, y)
  x3 = volvae.rotate (sum3)
  square4 = Mul (x3, x3)
  sum4 = Add (square4, z)
  word = Div (sum4, half)
}
<domain: "volvae", opset_import: ["": 18]>
rotate (x) => (rotated) {
  half = Constant <value = uint64[1] {4294967296}> ()
  right = Div (x, half)
  left = Mul (x, half)
  rotated = Add (left, right)
}
"""


class MixtureDraws(nn.Module):
    """Draws of a mixture of conditions and latents, given some of the conditions and a market.

    With ``market``, the market of each component, [component], the logarithms of the weights have a row for each market
    and a last one for all together, [market + 1, component].
    """

    means: Tensor
    covariances: Tensor
    log_weights: Tensor

    def __init__(self, joint: Mixture, conditions: int, market: NDArray[np.int64] | None = None) -> None:
        super().__init__()
        weights = joint.weights
        if market is not None:
            of_one = market == np.arange(market.max() + 1)[:, None]
            weights = np.concatenate([np.where(of_one, weights, 0.0), weights[None]])
        self.conditions = conditions
        with np.errstate(divide="ignore"):
            values = {
                "means": joint.means,
                "covariances": joint.factors @ joint.factors.transpose(0, 2, 1),
                "log_weights": np.log(weights),
            }
        for name, value in values.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))

    def forward(
        self, uniform: Tensor, normal: Tensor, conditions: Tensor | None = None, market: Tensor | None = None
    ) -> Tensor:
        """The latents [batch, latent] of uniform numbers [batch, 1] and numbers of N(0, I) [batch, latent]."""
        thresholds, means, factors = (part.to(uniform.dtype) for part in self._given(conditions, market))
        if market is not None:  # no uniform number may reach the components after the last one of the market
            thresholds = torch.where(thresholds >= _LARGEST_BELOW_ONE, 2.0, thresholds)
        component = interval_of(uniform, thresholds[:-1])
        return means[component] + (factors[component] * normal.unsqueeze(1)).sum(2)

    def _given(self, conditions: Tensor | None, market: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Cumulative weights, means and lower factors of the components given the conditions and the market."""
        means, covariances, log_weights = self.means, self.covariances, self.log_weights
        if market is not None:
            log_weights = log_weights[market].squeeze(0)
        for i, value in enumerate(() if conditions is None else conditions.unbind()):
            known = ~value.isnan()
            variance, along = covariances[:, i, i], covariances[:, :, i]
            error = torch.where(known, value.to(means.dtype) - means[:, i], 0.0)
            gain = torch.where(known, along / variance.unsqueeze(1), 0.0)
            log_weights = log_weights - torch.where(known, 0.5 * (error.square() / variance + variance.log()), 0.0)
            means = means + gain * error.unsqueeze(1)
            covariances = covariances - gain.unsqueeze(2) * along.unsqueeze(1)
        own = covariances[:, self.conditions :, self.conditions :]
        return log_weights.softmax(0).cumsum(0), means[:, self.conditions :], linear_systems.cholesky(own)


class Sampler(nn.Module):
    """Surfaces and latents from uniform numbers on (0, 1], ``words`` of them per surface."""

    def __init__(self, model: Vae, law: MixtureDraws | FlowDraws, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.law, self.model, self.decoder, self.shape = law, model, FoldedDecoder(model, shape), shape
        self.latents, self.factors = model.architecture.latents, model.architecture.residual_factors
        self.decoded = model.architecture.scale == "decoded"

    def forward(
        self,
        uniform: Tensor,
        temperature: Tensor,
        standard_normal: Tensor,
        conditions: Tensor | None = None,
        market: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Surfaces [batch, tenor, node] or vectors [batch, D] and z [batch, latent].

        A model with residual factors has a third output, the scores of the residual [batch, factor]; one whose noise
        depends on the latents that of the standard deviations of the noise, [batch, tenor, node] or [batch, D].

        Args:
            uniform: [batch, words].
            temperature: factor of the normal numbers, [1].
            standard_normal: whether z has the law N(0, I) in place of the fitted one, bool [1].
            conditions: values of the conditioning variables, NaN for one that is free, [condition]; None for a model
                without conditions.
            market: place of the market, -1 for all together, [1]; None for a model without markets.
        """
        numbers = _normal(uniform[:, 1:])[:, : self.latents + self.factors]
        normal = _tempered(numbers[:, : self.latents], temperature)
        if isinstance(self.law, FlowDraws):
            fitted = self.law(normal)
        else:
            fitted = self.law(uniform[:, :1], normal, conditions, market)
        z = torch.where(standard_normal, normal, fitted)
        if not self.factors:
            noise = (self.model.scale_at(z).unflatten(-1, self.shape),) if self.decoded else ()
            return self.decoder(z), z, *noise
        scores = _tempered(numbers[:, self.latents :], temperature)
        return self.decoder(z, scores), z, scores


class OfMarkets(nn.Module):
    """A sampler of markets with its arguments in another order: the exporter takes none after one that is left out."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(
        self,
        uniform: Tensor,
        temperature: Tensor,
        standard_normal: Tensor,
        market: Tensor,
        conditions: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """As of ``Sampler``."""
        drawn: tuple[Tensor, ...] = self.sampler(uniform, temperature, standard_normal, conditions, market)
        return drawn


def words(normals: int) -> int:
    """Number of random words per row: one for the component, and two for each pair of its normal numbers."""
    return 1 + 2 * ((normals + 1) // 2)


def sampler_graph(
    model: Vae,
    law: Mixture | Flow,
    conditions: int,
    layout: Layout,
    metadata: Mapping[str, str],
    market: NDArray[np.int64] | None = None,
) -> bytes:
    """``sampler.onnx``: inputs key, offset, count, temperature, standard_normal; outputs iv or x, and z.

    A model with residual factors adds a draw of the residual to the decoded z; its scores are a third output. One whose
    noise depends on z has the output ``noise``, its standard deviations.

    Args:
        model: whose decoder makes the surfaces.
        law: mixture of the conditions and z together, or a flow of z.
        conditions: number of conditions; the graph has an input ``conditions`` where there are any.
        layout: what the decoder writes.
        metadata: of the file.
        market: place of the market of each component, [component]; the graph then has an input ``market``.
    """
    shape = model.architecture
    count = words(shape.latents + shape.residual_factors)
    inputs = {"uniform": torch.full((2, count), 0.5), "temperature": torch.ones(1)}
    inputs["standard_normal"] = torch.zeros(1, dtype=torch.bool)
    if market is not None:
        inputs["market"] = torch.full((1,), -1)
    if conditions:
        inputs["conditions"] = torch.full((conditions,), torch.nan)
    single = FlowDraws(copy.deepcopy(law)).float() if isinstance(law, Flow) else MixtureDraws(law, conditions, market)
    sampler = Sampler(model, single, layout.shape)
    drawn = export.program(
        sampler if market is None else OfMarkets(sampler),
        inputs,
        outputs=[
            layout.tensor,
            "z",
            *(["scores"] if shape.residual_factors else []),
            *(["noise"] if shape.scale == "decoded" else []),
        ],
        free={"uniform": {0: "batch"}},
    )
    whole = compose.merge_models(uniform_graph(count), drawn, io_map=[("uniform", "uniform")])
    return export.finished(whole, metadata)


def uniform_graph(words: int) -> onnx.ModelProto:
    """The graph of the random numbers, [count, words]."""
    proto = parser.parse_model(_UNIFORM)
    constants = {
        "first_key": np.array(KEYS[:1], np.uint64),
        "second_key": np.array(KEYS[1:], np.uint64),
        "half": np.array([2**32], np.uint64),
        "one": np.array([1], np.uint64),
        "two": np.array([2], np.uint64),
        "words": np.array([words], np.uint64),
        "place_in_row": np.arange(words, dtype=np.uint64),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return inliner.inline_local_functions(proto)


def _normal(uniform: Tensor) -> Tensor:
    """N(0, 1) numbers from an equal, even number of uniform ones, [batch, number]."""
    radius, angle = uniform.chunk(2, dim=1)
    radius, angle = (-2.0 * radius.log()).sqrt(), 2.0 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def _tempered(normal: Tensor, temperature: Tensor) -> Tensor:
    """Normal numbers [batch, number] times the temperature, [1].

    A temperature above 1 moves no row to where the decoder was not trained: beyond a length that grows with the number
    of dimensions as lengths do, by its square root.
    """
    reach = _REACH + max(0.0, math.sqrt(normal.shape[1]) - math.sqrt(_FEW))
    length = normal.square().sum(1, keepdim=True).sqrt()
    return normal * torch.minimum(temperature, (reach / length).clamp(min=1.0))
