"""Training: a resumable state that advances by epochs.

Everything random in an epoch follows from (seed, epoch), so a resumed run repeats an uninterrupted one bit for bit
from the weights and the optimiser's moments alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.elbo import elbo
from vae.model import Coordinates, Vae

_ADAM_BETAS = (0.9, 0.99)
_MOST_SKIPPED = 10  # steps in a row whose gradient is not finite, before the run counts as diverged


class DivergedError(RuntimeError):
    """Training produced gradients that are not finite again and again."""


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes:
        epochs: passes over the training set.
        batch: surfaces of a step.
        learning_rate: peak of the cosine schedule.
        scale_rate: learning rate of log scale, in units of ``learning_rate``.
        warmup_steps: steps of linear warm-up.
        gradient_clip: largest norm of the gradient of the loss (minus the ELBO in nats per observed point).
        seed: of everything random.
    """

    epochs: int
    batch: int
    learning_rate: float
    scale_rate: float
    warmup_steps: int
    gradient_clip: float
    seed: int


class Epoch(NamedTuple):
    """What one epoch left behind; nats are per surface."""

    number: int
    train_elbo: float
    validation_elbo: float
    scale: float
    skipped_steps: int


class Fit:
    """Training state: the model, its optimiser, the best weights on validation and the next epoch."""

    def __init__(self, model: Vae, train: Coordinates, validation: Coordinates, schedule: Schedule) -> None:
        self.model, self.schedule = model, schedule
        self._train, self._validation = train, validation
        if self.surfaces < schedule.batch:
            raise ValueError(
                f"a batch of {schedule.batch} needs as many training surfaces, but there are {self.surfaces}"
            )
        self._optimizer = _optimizer(model, schedule)
        self._skipped_in_a_row = 0
        self.next_epoch = 0
        self.initial_elbo = self.best_elbo = self._validation_elbo()
        self.best_weights = _copy(model.state_dict())

    @property
    def surfaces(self) -> int:
        """Size of the training set."""
        return len(self._train.values)

    def epochs(self) -> Iterator[Epoch]:
        """Train to the end of the schedule, one epoch at a time.

        Raises:
            DivergedError: after many steps in a row whose gradient is not finite.
        """
        while self.next_epoch < self.schedule.epochs:
            train_elbo, skipped = self._train_epoch(self.next_epoch)
            validation_elbo = self._validation_elbo()
            if validation_elbo > self.best_elbo:
                self.best_elbo, self.best_weights = validation_elbo, _copy(self.model.state_dict())
            self.next_epoch += 1
            scale = math.exp(self.model.log_scale.item())
            yield Epoch(self.next_epoch, train_elbo, validation_elbo, scale, skipped)

    def state(self) -> dict[str, Tensor]:
        """Everything that ``restore`` needs, as tensors."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors["next_epoch"] = torch.tensor(self.next_epoch)
        tensors["best_elbo"] = torch.tensor(self.best_elbo, dtype=torch.float64)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a ``state`` of the same model, data and schedule."""
        self.model.load_state_dict(_under("model.", tensors))
        self.best_weights = _copy(_under("best.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.next_epoch = int(tensors["next_epoch"])
        self.best_elbo = float(tensors["best_elbo"])

    def _train_epoch(self, epoch: int) -> tuple[float, int]:
        """Mean ELBO of the steps of one epoch, and how many steps were skipped."""
        batch, steps = self.schedule.batch, self.surfaces // self.schedule.batch
        device = self._train.values.device
        generator = _generator(self.schedule.seed, epoch, device)
        order = torch.randperm(self.surfaces, generator=generator, device=device)
        total = torch.zeros((), dtype=torch.float64, device=device)
        skipped = 0
        for step in range(steps):
            self._set_learning_rate(epoch * steps + step, self.schedule.epochs * steps)
            value = self._step(self._train.at(order[step * batch : (step + 1) * batch]), generator)
            if value is None:
                skipped += 1
                self._count_skip(epoch)
            else:
                self._skipped_in_a_row = 0
                total += value
        return total.item() / max(steps - skipped, 1), skipped

    def _step(self, x: Coordinates, generator: torch.Generator) -> Tensor | None:
        """One step on minus the mean ELBO per observed point; the mean ELBO, or None for a skipped step."""
        value = elbo(self.model, x, self._noise(len(x.values), generator)).value.mean()
        self._optimizer.zero_grad(set_to_none=True)
        (-value / self.model.architecture.dimension).backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.gradient_clip)
        if not torch.isfinite(norm):
            return None
        self._optimizer.step()
        return value.detach()

    def _count_skip(self, epoch: int) -> None:
        """Note a step whose gradient was not finite; too many in a row end the run."""
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= _MOST_SKIPPED:
            raise DivergedError(
                f"{self._skipped_in_a_row} gradients in a row, the last in epoch {epoch + 1}, are not finite: "
                f"lower train.learning_rate (now {self.schedule.learning_rate:g})"
            )

    def _validation_elbo(self) -> float:
        """Mean ELBO of the validation set, with the same noise at every epoch."""
        generator = _generator(self.schedule.seed, self.schedule.epochs, self._validation.values.device)
        with torch.no_grad():
            noise = self._noise(len(self._validation.values), generator)
            return elbo(self.model, self._validation, noise).value.double().mean().item()

    def _noise(self, rows: int, generator: torch.Generator) -> Tensor:
        like = self.model.log_std
        shape = (rows, self.model.architecture.latents)
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def _set_learning_rate(self, step: int, steps: int) -> None:
        """Linear warm-up, then a cosine to zero."""
        warmup = min(1.0, (step + 1) / max(self.schedule.warmup_steps, 1))
        rate = self.schedule.learning_rate * warmup * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]


def _optimizer(model: Vae, schedule: Schedule) -> torch.optim.Adam:
    """Adam with a faster log scale: at the networks' rate it lags the residuals for most of a run."""
    networks = [p for name, p in model.named_parameters() if name != "log_scale"]
    groups = [
        {"params": networks, "rate": 1.0},
        {"params": [model.log_scale], "rate": schedule.scale_rate},
    ]
    return torch.optim.Adam(groups, lr=schedule.learning_rate, betas=_ADAM_BETAS, fused=True)


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """The generator of (seed, epoch)."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
