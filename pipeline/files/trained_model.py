"""The trained model on disk: weights and prior as safetensors, architecture as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputError
from pipeline.files import formats, tensor_files
from vae.model.autoencoder import Architecture, Vae
from vae.model.flow import Flow, FlowShape
from vae.model.laplace import LatentPrior
from vae.model.latent_law import LatentLaw
from vae.model.mixture import Mixture
from vae.surface.smile_features import ATM_LEVEL

_WEIGHTS, _ARCHITECTURE, _PRIOR = "weights.safetensors", "architecture.json", "prior.safetensors"
_LIKELY = 5.0  # standard deviations
_FLOW = "flow"  # key of the metadata that holds the sizes of a flow
_HALF_LIFE = "half_life_days"


class Prior(NamedTuple):
    """The joint distribution of conditions and latents.

    Attributes:
        law: mixture over [condition + latent], conditions first; without conditions and markets perhaps a flow.
        conditions: names of the conditions in order.
        markets: names of the markets where the market is a condition too.
        component_market: place in ``markets`` of each component, [component]; None without markets.
        half_life_days: age that halved the weight of a surface in training; None where all weighed the same.
    """

    law: Mixture | Flow
    conditions: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    component_market: NDArray[np.int64] | None = None
    half_life_days: float | None = None

    @property
    def joint(self) -> Mixture:
        """The mixture.

        Raises:
            TypeError: the law is a flow, which has neither conditions nor markets.
        """
        if isinstance(self.law, Flow):
            raise TypeError("a flow is the law of the latents alone")
        return self.law

    @property
    def condition_ranges(self) -> dict[str, tuple[float, float]]:
        """Least and largest value of each condition that the law makes likely.

        They are five deviations from the mean of a component, of the one that reaches farthest: a normal number is
        beyond in one of two million. No at-the-money vol is below 0, which a wide Gaussian does not know.
        """
        if not self.conditions:
            return {}
        reach = _LIKELY * np.sqrt(np.square(self.joint.factors).sum(2))
        low, high = (self.joint.means - reach).min(0).tolist(), (self.joint.means + reach).max(0).tolist()
        return {
            name: (max(0.0, least) if name == ATM_LEVEL else least, largest)
            for name, least, largest in zip(self.conditions, low, high, strict=False)  # the others are of the latents
        }

    @property
    def latents(self) -> LatentLaw:
        """The marginal distribution of the latents z."""
        return self.law if isinstance(self.law, Flow) else self._marginal(self.law)

    def in_market(self, name: str) -> LatentPrior:
        """The normal distribution with the mean and the covariance of the latents z in one of ``markets``."""
        chosen = np.asarray(self.component_market == self.markets.index(name))
        mean, covariance = (torch.from_numpy(part) for part in self._marginal(self.joint.part(chosen)).moments())
        return LatentPrior(mean, covariance.inverse())

    @property
    def described(self) -> str:
        """The law in words."""
        if isinstance(self.law, Flow):
            return f"flow of splines in {len(self.law.layers)} layers over z"
        if np.array_equal(self.law.table(), Mixture.standard_normal(self.law.dimension).table()):
            return "N(0, I) over z"
        return f"mixture of {len(self.law.weights)} Gaussians over the conditions and z"

    def _marginal(self, joint: Mixture) -> Mixture:
        """The distribution of z under a mixture of conditions and z."""
        return joint.select(range(len(self.conditions), joint.dimension))


class TrainedModel(NamedTuple):
    """A model in double precision on the CPU, and the prior of its conditions and latents."""

    model: Vae
    prior: Prior


def write_model(folder: Path, architecture: Architecture, weights: Mapping[str, Tensor], prior: Prior) -> None:
    """Write all files to an existing folder."""
    tensor_files.write_tensors(folder / _WEIGHTS, weights)
    formats.write_json(folder / _ARCHITECTURE, asdict(architecture))
    tensors, metadata = _written(prior.law)
    metadata["conditions"] = json.dumps(prior.conditions)
    if prior.half_life_days is not None:
        metadata[_HALF_LIFE] = json.dumps(prior.half_life_days)
    if prior.component_market is not None:
        tensors["market"] = torch.from_numpy(prior.component_market)
        metadata["markets"] = json.dumps(prior.markets)
    tensor_files.write_tensors(folder / _PRIOR, tensors, metadata)


def read(folder: Path) -> TrainedModel:
    """The model and the prior of a folder.

    Raises:
        InputError: a file is missing, damaged or does not fit the others.
    """
    model = read_model(folder)
    return TrainedModel(model, read_prior(folder, latents=model.architecture.latents))


def read_model(folder: Path) -> Vae:
    """The model of a folder, in double precision on the CPU.

    Raises:
        InputError: a file is missing, damaged or does not fit the other.
    """
    architecture = formats.read_json(folder / _ARCHITECTURE)
    weights = tensor_files.read_tensors(folder / _WEIGHTS).tensors
    try:
        model = Vae(Architecture(**architecture))
        model.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} does not hold one model: {' '.join(str(error).split())}") from error
    return model.double().eval()


def read_prior(folder: Path, *, latents: int) -> Prior:
    """The prior of a folder.

    Raises:
        InputError: a file is missing or damaged, or the prior has another number of latents.
    """
    tensors, metadata = tensor_files.read_tensors(folder / _PRIOR)
    with formats.reading(folder / _PRIOR):
        names = tuple(json.loads(metadata.get("conditions", "[]")))
        law = _read_law(tensors, metadata)
        if law.dimension != len(names) + latents:
            raise ValueError(f"{law.dimension} numbers, but {len(names)} conditions and {latents} latents")
        markets = tuple(json.loads(metadata.get("markets", "[]")))
        half_life = json.loads(metadata.get(_HALF_LIFE, "null"))
        market = tensors["market"].numpy() if markets else None
        if market is not None and sorted(set(market.tolist())) != list(range(len(markets))):
            raise ValueError(f"its components do not belong to the markets {', '.join(markets)}")
    return Prior(law, names, markets, market, half_life)


def _written(law: Mixture | Flow) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a law."""
    if isinstance(law, Flow):
        return law.state_dict(), {_FLOW: json.dumps(law.shape._asdict())}
    return {"table": torch.from_numpy(law.table())}, {}


def _read_law(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Mixture | Flow:
    """The law of tensors and metadata.

    Raises:
        ValueError: the tensors are not those of a law.
    """
    try:
        if _FLOW not in metadata:
            return Mixture.from_table(tensors["table"].numpy())
        flow = Flow(FlowShape(**json.loads(metadata[_FLOW]))).double()
        flow.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"it holds no law: {' '.join(str(error).split())}") from error
    return flow.eval()
