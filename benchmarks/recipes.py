"""The four training recipes that benchmarks.training compares. Each is a trainer that advances in small pieces."""

import contextlib
import copy
import io
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from pipeline.settings.train import TrainParams
from pipeline.train import new_trainer
from vae.model.autoencoder import Posterior, Vae
from vae.model.elbo import bounds, kl_of_latents
from vae.model.linear import principal_components

_LATENTS, _WIDTHS, _BATCH, _RATE, _SCORES = 6, (256, 256, 256), 256, 2e-3, 64  # of Plain and of Pythae
_BAGHAL_LATENTS, _BAGHAL_BATCH, _BAGHAL_RATE, _BAGHAL_DECAY = 4, 625, 0.01, 0.01
_ROWS = 16_384  # surfaces in double precision at a time
_LOG_TWO_PI = math.log(2.0 * math.pi)


class Data(NamedTuple):
    """Surfaces [surface, D]: quoted vols of the splits in single precision, and those of test without noise.

    ``noise`` is the standard deviation of the noise of the quotes.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    clean: Tensor
    noise: float


class Batches:
    """Random batches of rows [n, D]; each row comes once in an epoch."""

    def __init__(self, rows: Tensor, size: int, seed: int) -> None:
        self._rows, self._size = rows, size
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[Tensor] = []

    def take(self) -> Tensor:
        """The next batch, [size, D]."""
        if not self._order:
            order = torch.randperm(len(self._rows), generator=self._generator)
            self._order = list(order.split(self._size))
        return self._rows[self._order.pop()]


class Learned(Protocol):
    """The model of a trainer at a moment, in double precision."""

    def reconstructed(self, vols: Tensor) -> Tensor:
        """Vols decoded at the mean of the posterior of vols, both [batch, D]."""

    def elbo(self, vols: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
        """The ELBO of vols [batch, D] in nats of the density of decimal vols, [batch]; ``draws`` of q for each."""


class Trainer(Protocol):
    """A trainer that works in small pieces, so that several can take turns."""

    def advance(self) -> bool:
        """Train a step or an epoch. Returns whether there is more to do."""

    def learned(self) -> Learned:
        """The model now."""


class Networks(NamedTuple):
    """Encoder and decoder of a recipe other than volvae; all tensors are in double precision.

    Attributes:
        encode: from vols [batch, D] to the posterior.
        decode: from latents [*batch, latent] to vols [*batch, D].
        scale: standard deviation of the noise, []; None where the recipe learns none, and the best one is used.
    """

    encode: Callable[[Tensor], Posterior]
    decode: Callable[[Tensor], Tensor]
    scale: Tensor | None

    def reconstructed(self, vols: Tensor) -> Tensor:
        """Vols decoded at the mean of the posterior, [batch, D]."""
        return self.decode(self.encode(vols.double()).mean)

    def elbo(self, vols: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
        """The ELBO, [batch]; the best scale is the root mean square residual of these vols under these draws."""
        posterior = self.encode(vols.double())
        noise = torch.randn((draws, *posterior.mean.shape), generator=generator, dtype=torch.float64)
        squares = (self.decode(posterior.sample(noise)) - vols.double()).square().mean(0)
        scale = squares.mean().sqrt() if self.scale is None else self.scale
        log_likelihood = -0.5 * (squares / scale.square() + _LOG_TWO_PI + 2.0 * scale.log()).sum(-1)
        return log_likelihood - kl_of_latents(posterior).sum(-1)


class Model(NamedTuple):
    """A model of this project."""

    vae: Vae

    def reconstructed(self, vols: Tensor) -> Tensor:
        """Vols decoded at the mean of the posterior, [batch, D]."""
        posterior = self.vae.encode(self.vae.observe(vols.double()).values)
        return self.vae.expand(self.vae.decode(posterior.mean))

    def elbo(self, vols: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
        """The ELBO, [batch]."""
        shape = (draws, len(vols), self.vae.architecture.latents)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return bounds(self.vae, self.vae.observe(vols.double()), noise).elbo.value


class Scores(NamedTuple):
    """The largest principal directions of vols, in double precision: what plain and pythae learn on.

    Attributes:
        center: of the vols, [D].
        vectors: directions, [D, score].
        spread: standard deviation of the vols along each, [score].
    """

    center: Tensor
    vectors: Tensor
    spread: Tensor

    @classmethod
    def of(cls, vols: Tensor) -> "Scores":
        """Of the vols [surface, D] of the training split."""
        found = principal_components(vols)
        return cls(found.mean, found.vectors[:, :_SCORES], found.variances[:_SCORES].sqrt())

    @property
    def unit(self) -> Tensor:
        """The unit of scores, one for all, so that equal errors of vols count alike, []."""
        return self.spread.square().mean().sqrt()

    def values(self, vols: Tensor) -> Tensor:
        """Scores in their unit of vols [surface, D], in single precision, [surface, score]."""
        parts = [(part.double() - self.center) @ self.vectors / self.unit for part in vols.split(_ROWS)]
        return torch.cat([part.float() for part in parts])

    def networks(self, encoder: nn.Module, decoder: nn.Module, scale: Tensor | None) -> Networks:
        """Networks of scores as networks of vols."""
        return Networks(
            lambda vols: _posterior(lambda x: _single(encoder, self.values(x)), vols),
            lambda z: self.center + self.unit * _single(decoder, z) @ self.vectors.T,
            scale,
        )


class Volvae:
    """``vae.training.trainer.Trainer`` as the stage train makes it, with a given number of epochs."""

    def __init__(self, data: Data, params: TrainParams, epochs: int) -> None:
        self._trainer = new_trainer(params.model_copy(update={"epochs": epochs}), data.train, data.validation)
        self._epochs = self._trainer.epochs()

    def advance(self) -> bool:
        """Train an epoch."""
        next(self._epochs, None)
        return not self._trainer.finished

    def learned(self) -> Learned:
        """The model in training, with the auxiliary latents until these are removed."""
        return Model(copy.deepcopy(self._trainer.model).double())


class Schedule:
    """A learning rate that falls to zero by a cosine over the seconds of a trainer, which it counts itself."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: float, seconds: float, spent: float) -> None:
        self._optimizer, self._rate, self._seconds, self._spent = optimizer, rate, seconds, spent

    def run(self, work: Callable[[], None]) -> None:
        """Do a piece of work at the rate of the moment."""
        start = time.perf_counter()
        share = min(self._spent / self._seconds, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.5 * self._rate * (1.0 + math.cos(math.pi * share))
        work()
        self._spent += time.perf_counter() - start


class Baghal:
    """The recipe of github.com/sinabaghal/VariationalAutoEncoderforHeston: its networks, its KL, which is a mean."""

    def __init__(self, data: Data, seed: int, seconds: float) -> None:
        start = time.perf_counter()
        self._batches = Batches(data.train.double(), _BAGHAL_BATCH, seed)
        torch.manual_seed(seed)
        points = data.train.shape[1]
        leaky = nn.LeakyReLU
        layers = [nn.Linear(points, 32), leaky(), nn.Linear(32, 64), leaky(), nn.Linear(64, 128), leaky()]
        self._encoder = nn.Sequential(*layers, nn.Linear(128, 2 * _BAGHAL_LATENTS)).double()
        layers = [nn.Linear(_BAGHAL_LATENTS, 128), nn.Linear(128, 64), leaky(), nn.Linear(64, 32), leaky()]
        self._decoder = nn.Sequential(*layers, nn.Linear(32, points), leaky()).double()
        parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=_BAGHAL_RATE, weight_decay=_BAGHAL_DECAY)
        self._schedule = Schedule(self._optimizer, _BAGHAL_RATE, seconds, time.perf_counter() - start)

    def advance(self) -> bool:
        """Train a step."""
        self._schedule.run(self._step)
        return True

    def _step(self) -> None:
        x = self._batches.take()
        self._optimizer.zero_grad()
        posterior = _posterior(self._encoder, x)
        decoded = self._decoder(posterior.sample(torch.randn_like(posterior.mean)))
        error = nn.functional.mse_loss(decoded, x) * x.shape[1]
        (error + kl_of_latents(posterior).mean()).backward()
        self._optimizer.step()

    def learned(self) -> Learned:
        """The networks. The recipe has no scale."""
        return Networks(partial(_posterior, self._encoder), self._decoder, None)


class Plain:
    """The training loop of PyTorch's tutorials at its best: on principal scores, with a cosine schedule."""

    def __init__(self, data: Data, seed: int, seconds: float) -> None:
        start = time.perf_counter()
        self._scores = Scores.of(data.train)
        self._batches = Batches(self._scores.values(data.train), _BATCH, seed)
        torch.manual_seed(seed)
        self._encoder, self._decoder = _encoder(self._scores), _decoder(self._scores)
        self._log_scale = nn.Parameter(torch.zeros(()))
        parameters = [*self._encoder.parameters(), *self._decoder.parameters(), self._log_scale]
        self._optimizer = torch.optim.Adam(parameters, lr=_RATE)
        self._schedule = Schedule(self._optimizer, _RATE, seconds, time.perf_counter() - start)

    def advance(self) -> bool:
        """Train a step."""
        self._schedule.run(self._step)
        return True

    def _step(self) -> None:
        x = self._batches.take()
        self._optimizer.zero_grad()
        posterior = _posterior(self._encoder, x)
        error = (x - self._decoder(posterior.sample(torch.randn_like(posterior.mean)))) / self._log_scale.exp()
        log_likelihood = -0.5 * (error.square() + _LOG_TWO_PI).sum(-1) - x.shape[1] * self._log_scale
        (kl_of_latents(posterior).sum(-1) - log_likelihood).mean().backward()
        self._optimizer.step()

    def learned(self) -> Learned:
        """The networks and the scale."""
        scale = self._log_scale.detach().double().exp() * self._scores.unit
        return self._scores.networks(self._encoder, self._decoder, scale)


class Pythae:
    """The beta-VAE of the package pythae in the package's own trainer, which writes to ``folder`` and no checkpoints.

    Its loss has a noise of scale 1. Beta is the variance of the noise of the quotes, so that the loss is the ELBO.
    """

    def __init__(self, data: Data, seed: int, seconds: float, folder: Path) -> None:
        start = time.perf_counter()
        self._scores = Scores.of(data.train)
        torch.manual_seed(seed)
        beta = (data.noise / self._scores.unit.item()) ** 2
        config = BetaVAEConfig(input_dim=(_SCORES,), latent_dim=_LATENTS, reconstruction_loss="mse", beta=beta)
        self._model = BetaVAE(config, _Encoder(self._scores), _Decoder(self._scores))
        self._epoch = 0
        settings = BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=_BATCH,
            learning_rate=_RATE,
            seed=seed,
            no_cuda=True,
        )
        with _silence():
            values = self._scores.values(data.train)
            dataset = BaseDataset(values, torch.zeros(len(values)))
            self._trainer = BaseTrainer(self._model, dataset, training_config=settings)
            self._trainer.prepare_training()
        self._schedule = Schedule(self._trainer.optimizer, _RATE, seconds, time.perf_counter() - start)

    def advance(self) -> bool:
        """Train an epoch."""
        self._epoch += 1
        with _silence():
            self._schedule.run(lambda: self._trainer.train_step(self._epoch))
            self._trainer.callback_handler.on_epoch_end(training_config=self._trainer.training_config)
        return True

    def learned(self) -> Learned:
        """The networks. The scale in the loss of pythae is not learned, so that the best one is taken."""
        return self._scores.networks(self._model.encoder.network, self._model.decoder.network, None)


class _Encoder(BaseEncoder):
    """An encoder with the interface of pythae."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.network = _encoder(scores)

    def forward(self, x: Tensor) -> ModelOutput:
        """Mean and log variance, [batch, latent]."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class _Decoder(BaseDecoder):
    """A decoder with the interface of pythae."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.network = _decoder(scores)

    def forward(self, z: Tensor) -> ModelOutput:
        """Means, [batch, D]."""
        return ModelOutput(reconstruction=self.network(z))


class _Scaled(nn.Module):
    """The product with fixed numbers."""

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors.float())

    def forward(self, x: Tensor) -> Tensor:
        """The product, [batch, score]."""
        product: Tensor = x * self.factors
        return product


def _encoder(scores: Scores) -> nn.Sequential:
    """From scores to posteriors: it sees scores of deviation 1."""
    return nn.Sequential(_Scaled(scores.unit / scores.spread), _network(_SCORES, *_WIDTHS, 2 * _LATENTS))


def _decoder(scores: Scores) -> nn.Sequential:
    """From latents to scores."""
    return nn.Sequential(_network(_LATENTS, *_WIDTHS, _SCORES), _Scaled(scores.spread / scores.unit))


def _network(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, with SiLU between them."""
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for inputs, outputs in itertools.pairwise(sizes[1:]):
        layers += [nn.SiLU(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def _posterior(encoder: Callable[[Tensor], Tensor], x: Tensor) -> Posterior:
    """The posterior of an encoder of x [batch, D] whose outputs are means and log variances."""
    mean, log_variance = encoder(x).chunk(2, dim=-1)
    return Posterior(mean, 0.5 * log_variance)


def _single(network: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs in double precision of a network in single precision."""
    outputs: Tensor = network(inputs.float())
    return outputs.double()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the logs and the progress bars of pythae."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
