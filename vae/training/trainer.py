"""Training: a resumable state that advances by epochs.

Everything random in an epoch follows from (seed, epoch), so a resumed run repeats an uninterrupted one bit for bit
from the weights and the optimiser's moments alone; and each of several processes draws the numbers of the whole batch
and keeps its part, so that together they take the steps of one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.model.autoencoder import Observations, Vae
from vae.model.elbo import elbo, objective, proposal_log_density
from vae.training.data_parallel import Replicas
from vae.training.soap import Soap

_MOST_SKIPPED = 10  # steps in a row whose gradient is not finite, before the run counts as diverged
_SQUEEZE = (0.15, 0.55)  # part of the schedule in which scaffold latents are squeezed out; they go at its end
_SQUEEZE_WEIGHT = 300.0  # of their KL, at that end
_PENALISED_RATE = 0.25  # peak of the learning rate with a penalty, in units of that without
_SMEAR = 0.5  # standard deviation of the moves of codes whose surfaces are penalised


class DivergedError(RuntimeError):
    """Training produced gradients that are not finite again and again."""


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes:
        epochs: passes over the training set.
        batch: surfaces of a step, over all processes.
        learning_rate: peak of the cosine schedule.
        scale_rate: learning rate of log scale, in units of ``learning_rate``.
        warmup_steps: steps of linear warm-up.
        gradient_clip: largest norm of the gradient of the loss (minus the ELBO in nats per observed point).
        seed: of everything random.
        scaffold: latents that the model has beyond those that are asked for: they are squeezed out on the way.
        beta: weight of the KL; 1 is the ELBO.
        beta_warmup_epochs: epochs over which that weight rises from 0.
        importance_samples: draws of the importance-weighted bound; 1 is the ELBO.
        hidden_share: share of the surfaces of a step of which all but some random points are hidden.
        patience: epochs without a better validation ELBO after which training stops; 0 for never.
        weight_decay: how fast the weights of the networks shrink, in units of the learning rate.
        penalty_epochs: epochs after these in which the best model learns to keep its samples free of what is penalised.
        penalty_samples: drawn in each step of those.
    """

    epochs: int
    batch: int
    learning_rate: float
    scale_rate: float
    warmup_steps: int
    gradient_clip: float
    seed: int
    scaffold: int = 0
    beta: float = 1.0
    beta_warmup_epochs: int = 0
    importance_samples: int = 1
    hidden_share: float = 0.0
    patience: int = 0
    weight_decay: float = 0.0
    penalty_epochs: int = 0
    penalty_samples: int = 128

    @property
    def scaffold_epochs(self) -> int:
        """Epochs before the scaffold goes."""
        return math.ceil(_SQUEEZE[1] * self.epochs) if self.scaffold else 0


class Epoch(NamedTuple):
    """What one epoch left behind; nats are per surface, at beta = 1 on validation."""

    number: int
    train_objective: float
    validation_elbo: float
    scale: float
    skipped_steps: int


class Fit:
    """Training state: the model, its optimiser, the best weights on validation and the next epoch.

    A scaffold is latents beyond those asked for. Two regions of a curved manifold can share a place in the leading
    principal directions, and training from there rarely pulls them apart. With more directions they lie apart; then the
    weight of the KL of the extra latents grows until they carry nothing, and what they held apart unfolds into the
    others. They are dropped, and the rest of the schedule trains the model that was asked for.

    Args:
        model: with ``schedule.scaffold`` latents beyond those asked for.
        start: the model asked for at its start, which is what ships if training finds nothing better.
        train, validation: on the device of both models; with points where some are to be hidden.
        schedule: how to train.
        replicas: this process among those that train together.
        penalty: of surfaces [batch, D], in nats, [batch].
        compiled: whether torch compiles the objective, on CUDA into graphs that start all its kernels at once.
    """

    def __init__(
        self,
        model: Vae,
        train: Observations,
        validation: Observations,
        schedule: Schedule,
        *,
        start: Vae | None = None,
        replicas: Replicas = Replicas(),  # noqa: B008 - frozen
        penalty: Callable[[Tensor], Tensor] | None = None,
        compiled: bool = False,
    ) -> None:
        self.model, self.schedule, self._penalty = model, schedule, penalty
        mode = "reduce-overhead" if model.center.is_cuda else "default"
        self._objective = torch.compile(objective, mode=mode) if compiled else objective
        self._train, self._validation, self._replicas = train, validation, replicas
        if self.surfaces < schedule.batch:
            raise ValueError(
                f"a batch of {schedule.batch} needs as many training surfaces, but there are {self.surfaces}"
            )
        if schedule.batch < replicas.count:
            raise ValueError(f"a batch of {schedule.batch} is too small for {replicas.count} processes")
        start = model if start is None else start
        self._optimizer = _optimizer(model, schedule)
        self._skipped_in_a_row = 0
        self.next_epoch = self._best_epoch = 0
        self.initial_elbo = self.best_elbo = self.unpenalised_elbo = self._validation_elbo(start)
        self.architecture = start.architecture
        self.best_weights = _copy(start.state_dict())

    @property
    def surfaces(self) -> int:
        """Size of the training set."""
        return len(self._train.values)

    @property
    def total_epochs(self) -> int:
        """Epochs of the schedule, those with a penalty included."""
        return self.schedule.epochs + (self.schedule.penalty_epochs if self._penalty else 0)

    @property
    def finished(self) -> bool:
        """Whether the schedule is at its end."""
        return self.next_epoch >= self.total_epochs

    def epochs(self) -> Iterator[Epoch]:
        """Train to the end of the schedule, one epoch at a time.

        Raises:
            DivergedError: after many steps in a row whose gradient is not finite.
        """
        while not self.finished:
            if self._scaffolded and self.next_epoch >= self.schedule.scaffold_epochs:
                self._drop_scaffold()
            if self.next_epoch == self.schedule.epochs:
                self.model.load_state_dict(self.best_weights)
                self._optimizer = _optimizer(self.model, self.schedule)
            train_objective, skipped = self._train_epoch(self.next_epoch)
            validation_elbo = self._validation_elbo(self.model)
            self.next_epoch += 1
            number = self.next_epoch
            self._keep(validation_elbo)
            self._skip_ahead()  # before the state can be saved, so that a resumed run skips as well
            yield Epoch(number, train_objective, validation_elbo, self.typical_scale, skipped)

    def _keep(self, validation_elbo: float) -> None:
        """Keep the weights where they are the best so far; with a penalty, the last ones, for the samples' sake."""
        penalised = self.next_epoch > self.schedule.epochs
        if not penalised and (validation_elbo <= self.best_elbo or self._scaffolded):
            return
        if not penalised:
            self.unpenalised_elbo, self._best_epoch = validation_elbo, self.next_epoch
        self.best_elbo, self.best_weights = validation_elbo, _copy(self.model.state_dict())

    def _skip_ahead(self) -> None:
        """Leave out what is left of the epochs without a penalty where they brought nothing for too long."""
        waited = self.next_epoch - max(self._best_epoch, self.schedule.scaffold_epochs)
        if self.next_epoch < self.schedule.epochs and 0 < self.schedule.patience <= waited:
            self.next_epoch = self.schedule.epochs

    @property
    def typical_scale(self) -> float:
        """Root mean square of the noise in units of the data; NaN where the likelihood has none."""
        if self.model.architecture.likelihood != "gaussian":
            return math.nan
        return self.model.noise.square().mean().sqrt().item()

    def state(self) -> dict[str, Tensor]:
        """Everything that ``restore`` needs, as tensors."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors["next_epoch"] = torch.tensor(self.next_epoch)
        tensors["best_epoch"] = torch.tensor(self._best_epoch)
        elbos = (self.best_elbo, self.unpenalised_elbo)
        tensors["elbos"] = torch.tensor(elbos, dtype=torch.float64)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a ``state`` of the same model, data and schedule."""
        weights = _under("model.", tensors)
        if len(weights["log_std"]) < self.model.architecture.latents:
            self._drop_scaffold()
        self.model.load_state_dict(weights)
        device = self.model.center.device
        self.best_weights = {name: value.to(device) for name, value in _under("best.", tensors).items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.next_epoch, self._best_epoch = int(tensors["next_epoch"]), int(tensors["best_epoch"])
        self.best_elbo, self.unpenalised_elbo = tensors["elbos"].tolist()

    @property
    def _scaffolded(self) -> bool:
        return self.model.architecture.latents > self.architecture.latents

    def _drop_scaffold(self) -> None:
        """Go on with the model that was asked for, and with an optimiser that knows nothing yet."""
        self.model = self.model.without_last_latents(self.schedule.scaffold)
        self._optimizer = _optimizer(self.model, self.schedule)

    def _train_epoch(self, epoch: int) -> tuple[float, int]:
        """Mean objective of the steps of one epoch, and how many steps were skipped."""
        batch, steps = self.schedule.batch, self.surfaces // self.schedule.batch
        device = self._train.values.device
        generator = _generator(self.schedule.seed, epoch, device)
        order = torch.randperm(self.surfaces, generator=generator, device=device)
        total = torch.zeros((), dtype=torch.float64, device=device)
        skipped = 0
        for step in range(steps):
            done = epoch * steps + step
            self._set_learning_rate(done, steps)
            weights = self._kl_weights(done / steps)
            rows = order[step * batch : (step + 1) * batch]
            value = self._step(rows, weights, generator, penalised=epoch >= self.schedule.epochs)
            if value is None:
                skipped += 1
                self._count_skip(epoch)
            else:
                self._skipped_in_a_row = 0
                total += value
        return total.item() / max(steps - skipped, 1), skipped

    def _step(
        self, rows: Tensor, weights: Tensor, generator: torch.Generator, *, penalised: bool = False
    ) -> Tensor | None:
        """One step on minus the mean objective per point; the mean objective, or None for a skipped step."""
        batch, mine = len(rows), self._replicas.rows(len(rows))
        noise = self._noise((self.schedule.importance_samples, batch), generator)[:, mine]
        hidden = None if self._scaffolded else self._hidden(batch, generator)
        self._optimizer.zero_grad(set_to_none=True)
        x = self._train.at(rows[mine])
        value = self._objective(self.model, x, noise, weights).sum() / batch
        guessed = 0.0 if hidden is None else self._guess(x, noise[0], hidden.at(mine)) / batch
        penalty = self._penalty_of_samples(rows, generator) if penalised else 0.0
        (-(value + guessed - penalty) / self.model.architecture.dimension).backward()
        value = self._replicas.add(self.model.parameters(), value.detach())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.gradient_clip)
        if not torch.isfinite(norm):
            return None
        self._optimizer.step()
        return value

    def _penalty_of_samples(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Mean penalty of surfaces decoded at latents that priors may draw; of several processes, the part of this one.

        Half are draws of N(0, I); half are codes of data moved by part of its spread, as a fitted prior moves them.
        """
        if self._penalty is None:
            raise ValueError("there is no penalty")
        count = min(self.schedule.penalty_samples, len(rows))
        part = self._replicas.rows(count)
        noise = self._noise((2, count), generator)[:, part]
        x = self._train.at(rows[:count][part])
        with torch.no_grad():
            codes = self.model.encode(x.values, x.missing).mean
        z = torch.cat([noise[0], codes + _SMEAR * noise[1]])
        return self._penalty(self.model.expand(self.model.decode(z))).sum() / (2 * count)

    def _guess(self, x: Observations, noise: Tensor, hidden: "_Hidden") -> Tensor:
        """Sum of what is learned from the first rows of a part of a batch, some of whose points are hidden."""
        some = slice(None, len(hidden.keep))
        whole = x.at(some)
        return proposal_log_density(self.model, whole, self.model.mask(whole, hidden.mask()), noise[some]).sum()

    def _hidden(self, batch: int, generator: torch.Generator) -> "_Hidden | None":
        """Which points of the first rows of a batch to hide: all but 1 to D - 1, on a logarithmic scale."""
        count = round(self.schedule.hidden_share * batch)
        if not count:
            return None
        like, points = self.model.log_std, self.model.architecture.dimension
        keep = torch.rand((count, 1), generator=generator, device=like.device)
        order = torch.rand((count, points), generator=generator, device=like.device)
        return _Hidden((points**keep).long().clamp(1, points - 1), order)

    def _count_skip(self, epoch: int) -> None:
        """Note a step whose gradient was not finite; too many in a row end the run."""
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= _MOST_SKIPPED:
            raise DivergedError(
                f"{self._skipped_in_a_row} gradients in a row, the last in epoch {epoch + 1}, are not finite: "
                f"lower train.learning_rate (now {self.schedule.learning_rate:g})"
            )

    def _validation_elbo(self, model: Vae) -> float:
        """Mean ELBO of the validation set, with the same noise at every epoch."""
        generator = _generator(self.schedule.seed, self.schedule.epochs, self._validation.values.device)
        with torch.no_grad():
            shape = (len(self._validation.values), model.architecture.latents)
            noise = torch.randn(shape, generator=generator, device=model.center.device)
            return elbo(model, self._validation, noise).value.double().mean().item()

    def _noise(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        like = self.model.log_std
        return torch.randn((*shape, len(like)), generator=generator, device=like.device, dtype=like.dtype)

    def _kl_weights(self, epochs: float) -> Tensor:
        """Weight of the KL of each latent after so many epochs."""
        warmup = self.schedule.beta_warmup_epochs
        weights = torch.full_like(
            self.model.log_std, self.schedule.beta * (min(1.0, epochs / warmup) if warmup else 1.0)
        )
        if self._scaffolded:
            begin, end = _SQUEEZE
            part = min(1.0, max(0.0, (epochs / self.schedule.epochs - begin) / (end - begin)))
            weights[self.architecture.latents :] += _SQUEEZE_WEIGHT * part**2
        return weights.detach()

    def _set_learning_rate(self, step: int, steps_of_epoch: int) -> None:
        """Linear warm-up, also of the optimiser that is new where the scaffold went; then a cosine to zero."""
        peak, start, steps = self.schedule.learning_rate, 0, self.schedule.epochs * steps_of_epoch
        since = step if self._scaffolded else step - self.schedule.scaffold_epochs * steps_of_epoch
        if step >= steps:  # a schedule of its own for the epochs with a penalty
            peak, start, steps = _PENALISED_RATE * peak, steps, self.schedule.penalty_epochs * steps_of_epoch
            since = step - start
        warmup = min(1.0, (since + 1) / max(self.schedule.warmup_steps, 1))
        rate = peak * warmup * 0.5 * (1.0 + math.cos(math.pi * (step - start) / steps))
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]


class _Hidden(NamedTuple):
    """How many points to keep, [row, 1], and random numbers that order the points, [row, D]."""

    keep: Tensor
    order: Tensor

    def at(self, rows: slice) -> "_Hidden":
        """Those of some rows."""
        return _Hidden(self.keep[rows], self.order[rows])

    def mask(self) -> Tensor:
        """1 where a point is hidden, [row, D]."""
        threshold = self.order.sort(dim=1).values.gather(1, self.keep)
        return (self.order >= threshold).to(self.order.dtype)


def _optimizer(model: Vae, schedule: Schedule) -> Soap:
    """SOAP with a faster log scale: at the networks' rate it lags the residuals for most of a run.

    Only networks decay: a model without them is the linear one.
    """
    groups: dict[str, list[nn.Parameter]] = {"network": [], "linear": [], "scale": []}
    for name, parameter in model.named_parameters():
        kind = "network" if "_network." in name else "scale" if name == "log_scale" else "linear"
        groups[kind].append(parameter)
    settings = {
        "network": {"rate": 1.0, "decay": schedule.weight_decay},
        "linear": {"rate": 1.0, "decay": 0.0},
        "scale": {"rate": schedule.scale_rate, "decay": 0.0},
    }
    return Soap(
        [{"params": groups[kind], **settings[kind]} for kind in groups if groups[kind]], lr=schedule.learning_rate
    )


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """The generator of (seed, epoch)."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
