"""The four training recipes that benchmarks.training compares. Each is a trainer that advances in small pieces."""

import contextlib
import copy
import io
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.settings.train import TrainParams
from pipeline.train import new_fit
from vae.model.autoencoder import Posterior, Vae
from vae.model.elbo import bounds, kl_of_latents

_LATENTS, _WIDTHS, _BATCH, _RATE = 6, (256, 256, 256), 256, 1e-3  # of Plain and of Pythae
_BAGHAL_LATENTS, _BAGHAL_RATE, _BAGHAL_DECAY = 4, 0.01, 0.01
_LOG_TWO_PI = math.log(2.0 * math.pi)


class Data(NamedTuple):
    """Surfaces [surface, D]: quoted vols of the splits in single precision, and those of test without noise."""

    train: Tensor
    validation: Tensor
    test: Tensor
    clean: Tensor


class Units(NamedTuple):
    """The affine map from vols to the values that a recipe trains on: (vol - center) / spread, both [D] or []."""

    center: Tensor
    spread: Tensor

    def of(self, vols: Tensor) -> Tensor:
        """Vols [*batch, D] in these units, in double precision."""
        return (vols.double() - self.center) / self.spread

    def vols(self, values: Tensor) -> Tensor:
        """Vols [*batch, D] from values in these units."""
        return self.center + self.spread * values

    def log_slope(self, points: int) -> Tensor:
        """The sum of ln |d value / d vol| over ``points`` points, []."""
        return -self.spread.log().expand(points).sum()


PLAIN_VOLS = Units(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))


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
    """The encoder and the decoder of a recipe of other projects. All tensors are in double precision.

    Attributes:
        units: of the values that both work in.
        encode: values [batch, D] to the posterior.
        decode: latents [*batch, latent] to means [*batch, D].
        scale: standard deviation of the noise, []; None where the recipe learns none. The best one is taken then.
    """

    units: Units
    encode: Callable[[Tensor], Posterior]
    decode: Callable[[Tensor], Tensor]
    scale: Tensor | None

    def reconstructed(self, vols: Tensor) -> Tensor:
        """Vols decoded at the mean of the posterior, [batch, D]."""
        return self.units.vols(self.decode(self.encode(self.units.of(vols)).mean))

    def elbo(self, vols: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
        """The ELBO, [batch]. Without a learned scale it uses the root mean square residual of these vols and draws."""
        values = self.units.of(vols)
        posterior = self.encode(values)
        noise = torch.randn((draws, *posterior.mean.shape), generator=generator, dtype=torch.float64)
        squares = (self.decode(posterior.sample(noise)) - values).square().mean(0)
        scale = squares.mean().sqrt() if self.scale is None else self.scale
        log_likelihood = -0.5 * (squares / scale.square() + _LOG_TWO_PI + 2.0 * scale.log()).sum(-1)
        return log_likelihood + self.units.log_slope(vols.shape[1]) - kl_of_latents(posterior).sum(-1)


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


class Volvae:
    """``vae.training.trainer.Trainer`` as the stage train makes it, with a given number of epochs."""

    def __init__(self, data: Data, params: TrainParams, epochs: int) -> None:
        self._trainer = new_fit(params.model_copy(update={"epochs": epochs}), data.train, data.validation)
        self._epochs = self._trainer.epochs()

    def advance(self) -> bool:
        """Train an epoch."""
        next(self._epochs, None)
        return not self._trainer.finished

    def learned(self) -> Learned:
        """The model in training, with the auxiliary latents until these are removed."""
        return Model(copy.deepcopy(self._trainer.model).double())


class Baghal:
    """The recipe of github.com/sinabaghal/VariationalAutoEncoderforHeston: one batch of all surfaces, the KL a mean."""

    def __init__(self, data: Data, seed: int) -> None:
        torch.manual_seed(seed)
        self._values = data.train.double()
        points = self._values.shape[1]
        leaky = nn.LeakyReLU
        layers = [nn.Linear(points, 32), leaky(), nn.Linear(32, 64), leaky(), nn.Linear(64, 128), leaky()]
        self._encoder = nn.Sequential(*layers, nn.Linear(128, 2 * _BAGHAL_LATENTS)).double()
        layers = [nn.Linear(_BAGHAL_LATENTS, 128), nn.Linear(128, 64), leaky(), nn.Linear(64, 32), leaky()]
        self._decoder = nn.Sequential(*layers, nn.Linear(32, points), leaky()).double()
        parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=_BAGHAL_RATE, weight_decay=_BAGHAL_DECAY)

    def advance(self) -> bool:
        """Train a step on all surfaces."""
        self._optimizer.zero_grad()
        posterior = _posterior(self._encoder, self._values)
        decoded = self._decoder(posterior.sample(torch.randn_like(posterior.mean)))
        error = nn.functional.mse_loss(decoded, self._values) * self._values.shape[1]
        (error + kl_of_latents(posterior).mean()).backward()
        self._optimizer.step()
        return True

    def learned(self) -> Learned:
        """The networks. The recipe has no scale."""
        return Networks(PLAIN_VOLS, partial(_posterior, self._encoder), self._decoder, None)


class Plain:
    """The training loop of PyTorch's tutorials, on standardised vols."""

    def __init__(self, data: Data, seed: int) -> None:
        torch.manual_seed(seed)
        self._units, values = standardised(data.train)
        self._encoder = _network(values.shape[1], *_WIDTHS, 2 * _LATENTS)
        self._decoder = _network(_LATENTS, *_WIDTHS, values.shape[1])
        self._log_scale = nn.Parameter(torch.zeros(()))
        parameters = [*self._encoder.parameters(), *self._decoder.parameters(), self._log_scale]
        self._optimizer = torch.optim.Adam(parameters, lr=_RATE)
        self._loader = DataLoader(TensorDataset(values), batch_size=_BATCH, shuffle=True)
        self._batches = iter(self._loader)

    def advance(self) -> bool:
        """Train a step."""
        x = self._batch()
        self._optimizer.zero_grad()
        posterior = _posterior(self._encoder, x)
        error = (x - self._decoder(posterior.sample(torch.randn_like(posterior.mean)))) / self._log_scale.exp()
        log_likelihood = -0.5 * (error.square() + _LOG_TWO_PI).sum(-1) - x.shape[1] * self._log_scale
        (kl_of_latents(posterior).sum(-1) - log_likelihood).mean().backward()
        self._optimizer.step()
        return True

    def learned(self) -> Learned:
        """The networks and the scale."""
        scale = self._log_scale.detach().double().exp()
        return Networks(self._units, partial(_encoded, self._encoder), partial(_single, self._decoder), scale)

    def _batch(self) -> Tensor:
        """The next batch [256, D]; it is the first of a new epoch where one has ended."""
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self._loader)
            batch = next(self._batches)
        x: Tensor = batch[0]
        return x


class Pythae:
    """The VAE of the package pythae in the package's own trainer, which writes to ``folder`` and no checkpoints."""

    def __init__(self, data: Data, seed: int, folder: Path) -> None:
        self._units, values = standardised(data.train)
        torch.manual_seed(seed)
        config = VAEConfig(input_dim=(values.shape[1],), latent_dim=_LATENTS, reconstruction_loss="mse")
        self._model = VAE(config, _Encoder(values.shape[1]), _Decoder(values.shape[1]))
        self._epoch = 0
        settings = BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=_BATCH,
            learning_rate=_RATE,
            seed=seed,
            no_cuda=True,
        )
        with _silence():
            dataset = BaseDataset(values, torch.zeros(len(values)))
            self._trainer = BaseTrainer(self._model, dataset, training_config=settings)
            self._trainer.prepare_training()

    def advance(self) -> bool:
        """Train an epoch."""
        self._epoch += 1
        with _silence():
            self._trainer.train_step(self._epoch)
            self._trainer.callback_handler.on_epoch_end(training_config=self._trainer.training_config)
        return True

    def learned(self) -> Learned:
        """The networks. The scale of 1 in the loss of pythae is not a scale of the noise."""
        encoder, decoder = self._model.encoder.network, self._model.decoder.network
        return Networks(self._units, partial(_encoded, encoder), partial(_single, decoder), None)


class _Encoder(BaseEncoder):
    """An encoder with the interface of pythae."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.network = _network(points, *_WIDTHS, 2 * _LATENTS)

    def forward(self, x: Tensor) -> ModelOutput:
        """Mean and log variance, [batch, latent]."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class _Decoder(BaseDecoder):
    """A decoder with the interface of pythae."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.network = _network(_LATENTS, *_WIDTHS, points)

    def forward(self, z: Tensor) -> ModelOutput:
        """Means, [batch, D]."""
        return ModelOutput(reconstruction=self.network(z))


def standardised(vols: Tensor) -> tuple[Units, Tensor]:
    """Units in which each point of vols [surface, D] has mean 0 and deviation 1, and the vols in these units."""
    spread, center = torch.std_mean(vols, dim=0)
    return Units(center.double(), spread.double()), (vols - center) / spread


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


def _encoded(encoder: nn.Module, x: Tensor) -> Posterior:
    """The posterior in double precision of an encoder in single precision."""
    return _posterior(partial(_single, encoder), x)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the logs and the progress bars of pythae."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
