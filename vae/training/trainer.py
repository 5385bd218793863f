"""The training loop: a resumable state that advances by epochs.

All random numbers of an epoch follow from (seed, epoch). So a run that is resumed from its weights and the moments of
its optimiser ends in the same bits as one that was never stopped. Each of several processes draws the numbers of the
whole batch and uses its part, so that together they take the steps of one process.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae.model.autoencoder import Observations, Vae
from vae.model.elbo import elbo, objective, proposal_log_density
from vae.training.captured import Captured
from vae.training.data_parallel import Replicas
from vae.training.schedule import Schedule
from vae.training.soap import Soap

_MOST_SKIPPED = 10  # steps in a row whose gradient is not finite, before the run counts as diverged
_PERTURBATION = 0.5  # standard deviation of the noise added to codes whose surfaces are penalised


class DivergedError(RuntimeError):
    """The gradients of many steps in a row were not finite."""


class Epoch(NamedTuple):
    """The figures of one epoch.

    Attributes:
        number: counted from 1.
        train_objective: mean objective of the steps that were taken, nats per surface.
        validation_elbo: at beta = 1, nats per surface.
        scale: root mean square of the noise in units of the data; NaN where the likelihood has none.
        skipped_steps: steps whose gradient was not finite.
    """

    number: int
    train_objective: float
    validation_elbo: float
    scale: float
    skipped_steps: int


class Trainer:
    """Training state: the model, its optimiser, the best weights on validation and the next epoch.

    The scaffold is a set of auxiliary latents, annealed out by a growing weight of their KL. Two regions of a curved
    manifold can coincide in the leading principal directions, and training from there rarely separates them. In more
    directions they are apart. While the weight grows, the final latents take over what the scaffold encodes. Then the
    scaffold is dropped, and the remaining epochs train the final model.

    Args:
        model: the final model with ``schedule.scaffold_latents`` more latents.
        train, validation: on the device of both models.
        schedule: settings.
        start: the final model at its start; it is the result where training finds nothing better.
        replicas: this process among those that train together.
        penalty: of surfaces [batch, D], in nats, [batch].
        weights: of the training surfaces, with a mean of 1, [surface]; all count alike by default.
        surfaces: the training surfaces in units of the data, [surface, D], complete and on the CPU, of which steps read
            the points that they need where ``train`` has none: all where the likelihood needs them, those of some
            surfaces where ``schedule.hidden_share`` is not 0. They may lie in a file.
        stop_after: epochs without a penalty that are trained, of those of the schedule; the latest weights are then the
            result, whatever they do on validation. By default all are trained and the best weights are the result.
        compiled: whether torch compiles the objective.

    Raises:
        ValueError: a batch is larger than the training set, or smaller than the number of processes.
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
        weights: Tensor | None = None,
        surfaces: Tensor | None = None,
        stop_after: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.model, self.schedule, self._penalty, self._weights = model, schedule, penalty, weights
        self._objective = torch.compile(objective) if compiled else objective
        self._train, self._validation, self._replicas = train, validation, replicas
        self._surfaces = surfaces
        self._on_one_gpu = model.center.is_cuda and replicas.count == 1
        self._needs_points = model.pointwise or train.missing is not None
        if self.surfaces < schedule.batch:
            raise ValueError(
                f"a batch of {schedule.batch} needs as many training surfaces, but there are {self.surfaces}"
            )
        if schedule.batch < replicas.count:
            raise ValueError(f"a batch of {schedule.batch} is too small for {replicas.count} processes")
        start = model if start is None else start
        self._skipped_in_a_row = 0
        self._stop_after = stop_after
        self.next_epoch = schedule.epochs if stop_after == 0 else 0
        self.best_epoch = 0
        self._begin_part()
        self.initial_elbo = self.best_elbo = self.unpenalised_elbo = self._validation_elbo(start)
        self.architecture = start.architecture
        self.best_weights = _copy(start.state_dict())

    @property
    def surfaces(self) -> int:
        """Size of the training set."""
        return len(self._train.values)

    @property
    def total_epochs(self) -> int:
        """Number of epochs, those with a penalty included."""
        return self.schedule.epochs + (self.schedule.penalty_epochs if self._penalty else 0)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return self.next_epoch >= self.total_epochs

    def epochs(self) -> Iterator[Epoch]:
        """Train to the end of the schedule, one epoch at a time.

        Raises:
            DivergedError: the gradients of many steps in a row were not finite.
        """
        while not self.finished:
            if self._scaffolded and self.next_epoch >= self.schedule.scaffold_epochs:
                self._drop_scaffold()
                self._begin_part()
            if self.next_epoch == self.schedule.epochs:
                self.model.load_state_dict(self.best_weights)
                self._begin_part()
            train_objective, skipped = self._train_epoch(self.next_epoch)
            validation_elbo = self._validation_elbo(self.model)
            self.next_epoch += 1
            number = self.next_epoch
            self._keep(validation_elbo)
            self._stop_early()  # before the state can be saved, so that a resumed run does the same
            yield Epoch(number, train_objective, validation_elbo, self.typical_scale, skipped)

    def _keep(self, validation_elbo: float) -> None:
        """Keep the weights if they are the best so far; with a penalty keep the latest, whose samples are the best."""
        penalised = self.next_epoch > self.schedule.epochs
        worse = not validation_elbo > self.best_elbo and self._stop_after is None  # nan is worse, too
        if not penalised and (worse or self._scaffolded):
            return
        if not penalised:
            self.unpenalised_elbo, self.best_epoch = validation_elbo, self.next_epoch
        self.best_elbo, self.best_weights = validation_elbo, _copy(self.model.state_dict())

    def _stop_early(self) -> None:
        """Go on to the epochs with a penalty after ``stop_after``, or where validation has not improved for long."""
        if self.next_epoch >= self.schedule.epochs:
            return
        waited = self.next_epoch - max(self.best_epoch, self.schedule.scaffold_epochs)
        impatient = self._stop_after is None and 0 < self.schedule.patience_epochs <= waited
        if impatient or self.next_epoch == self._stop_after:
            self.next_epoch = self.schedule.epochs

    @property
    def typical_scale(self) -> float:
        """Root mean square of the noise in units of the data; NaN where the likelihood has none."""
        if self.model.architecture.likelihood != "gaussian":
            return math.nan
        return self.model.noise.square().mean().sqrt().item()

    def state(self) -> dict[str, Tensor]:
        """The tensors from which ``restore`` continues; of several processes all must call this."""
        self._optimizer.gather()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors["next_epoch"] = torch.tensor(self.next_epoch)
        tensors["best_epoch"] = torch.tensor(self.best_epoch)
        elbos = (self.best_elbo, self.unpenalised_elbo)
        tensors["elbos"] = torch.tensor(elbos, dtype=torch.float64)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a ``state`` of the same model, data and schedule."""
        weights = _under("model.", tensors)
        self.next_epoch, self.best_epoch = int(tensors["next_epoch"]), int(tensors["best_epoch"])
        if len(weights["log_std"]) < self.model.architecture.latents:
            self._drop_scaffold()
        self._begin_part()
        self.model.load_state_dict(weights)
        device = self.model.center.device
        self.best_weights = {name: value.to(device) for name, value in _under("best.", tensors).items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.best_elbo, self.unpenalised_elbo = tensors["elbos"].tolist()

    @property
    def _scaffolded(self) -> bool:
        return self.model.architecture.latents > self.architecture.latents

    def _drop_scaffold(self) -> None:
        """Go on with the final model."""
        self.model = self.model.without_last_latents(self.schedule.scaffold_latents)

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
            self._set_learning_rate(self.schedule.rate(done, steps, scaffolded=self._scaffolded))
            weights = self.schedule.kl_weights(done / steps, self.model.log_std, latents=self.architecture.latents)
            rows = order[step * batch : (step + 1) * batch]
            value = self._step(rows, weights, generator, penalised=epoch >= self.schedule.epochs)
            if value is None:
                skipped += 1
                self._count_skip(epoch)
            else:
                self._skipped_in_a_row = 0
                total += value
        return total.item() / max(steps - skipped, 1), skipped

    def _begin_part(self) -> None:
        """Begin a part of the training with a new optimiser; on one GPU the work of its steps is recorded.

        A penalty draws samples in the midst of a step, so that its few epochs are not recorded.
        """
        recorded = self._on_one_gpu and self.next_epoch < self.schedule.epochs
        self._optimizer = _optimizer(self.model, self.schedule, captured=recorded, replicas=self._replicas)
        self._unpenalised = Captured(self._gradients) if recorded else self._gradients

    def _step(
        self, rows: Tensor, weights: Tensor, generator: torch.Generator, *, penalised: bool = False
    ) -> Tensor | None:
        """One step on minus the mean objective per point; the mean objective, or None for a skipped step."""
        noise = self._noise((self.schedule.importance_samples, len(rows)), generator)
        masks = None if self._scaffolded else self._random_masks(len(rows), generator)
        draws = (rows, weights, noise, *(masks or ()))
        if penalised:
            value, norm = self._gradients(*draws, penalty=partial(self._penalty_of_samples, rows, generator))
        else:
            value, norm = self._unpenalised(*draws)
        if not torch.isfinite(norm):
            return None
        self._optimizer.step()
        return value

    def _gradients(
        self, rows: Tensor, weights: Tensor, noise: Tensor, *masks: Tensor, penalty: Callable[[], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The mean objective; set its gradients, whose norm is bounded, and return what that was before."""
        mine = self._replicas.rows(len(rows))
        self._optimizer.zero_grad(set_to_none=True)
        x = self._observations(rows[mine])
        value = self._weighted(self._objective(self.model, x, noise[:, mine], weights), rows[mine]).sum() / len(rows)
        proposal: Tensor | float = 0.0
        if masks:
            proposal = self._proposal_objective(rows, noise[0], _Masks(*masks)) / len(rows)
        penalties = penalty() if penalty else 0.0
        (-(value + proposal - penalties) / self.model.architecture.dimension).backward()
        value = self._replicas.add(self.model.parameters(), value.detach())
        return value, nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.gradient_clip)

    def _observations(self, rows: Tensor, *, points: bool = False) -> Observations:
        """Training observations of these rows, with their points where these are asked for or the objective needs them.

        To gather points for nothing takes a sixth of a step.
        """
        if not (points or self._needs_points):
            return self._train._replace(points=None).at(rows)
        found = self._train.at(rows)
        if found.points is None and self._surfaces is not None:
            found = found._replace(points=self.model.centred(self._surfaces[rows]))
        return found

    def _weighted(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values [row] of training surfaces by the weights of these."""
        return values if self._weights is None else values * self._weights[rows]

    def _penalty_of_samples(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Mean penalty of decoded samples; of several processes, the part of this one.

        Half of the latents are draws of N(0, I). The others are codes of data with a random perturbation: a fitted
        prior draws latents near the codes too.
        """
        if self._penalty is None:
            raise ValueError("there is no penalty")
        count = min(self.schedule.penalty_samples, len(rows))
        part = self._replicas.rows(count)
        noise = self._noise((2, count), generator)[:, part]
        x = self._observations(rows[:count][part])
        with torch.no_grad():
            codes = self.model.encode(x.values, x.missing).mean
        z = torch.cat([noise[0], codes + _PERTURBATION * noise[1]])
        return self._penalty(self.model.expand(self.model.decode(z))).sum() / (2 * count)

    def _proposal_objective(self, rows: Tensor, noise: Tensor, masks: "_Masks") -> Tensor:
        """Sum of the amortised proposal's objective over the first of these surfaces, whose points are masked.

        Of several processes, over the part of this one: each has as many of them.
        """
        part = self._replicas.rows(len(masks.keep))
        complete = self._observations(rows[part], points=True)
        masked = self.model.mask(complete, masks.at(part).masked())
        return proposal_log_density(self.model, complete, masked, noise[part]).sum()

    def _random_masks(self, batch: int, generator: torch.Generator) -> "_Masks | None":
        """Masks of the first rows of a batch, which keep 1 to D - 1 points, their number uniform on a log scale."""
        count = round(self.schedule.hidden_share * batch)
        if not count:
            return None
        like, points = self.model.log_std, self.model.architecture.dimension
        keep = torch.rand((count, 1), generator=generator, device=like.device)
        order = torch.rand((count, points), generator=generator, device=like.device)
        return _Masks((points**keep).long().clamp(1, points - 1), order)

    def _count_skip(self, epoch: int) -> None:
        """Count a step whose gradient was not finite; too many in a row end the run."""
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= _MOST_SKIPPED:
            raise DivergedError(
                f"{self._skipped_in_a_row} gradients in a row, the last in epoch {epoch + 1}, are not finite "
                f"at a learning rate of {self.schedule.learning_rate:g}"
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

    def _set_learning_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]


class _Masks(NamedTuple):
    """Random masks: the number of points to keep, [row, 1], and random numbers that order the points, [row, D]."""

    keep: Tensor
    order: Tensor

    def at(self, rows: slice) -> "_Masks":
        """The masks of some rows."""
        return _Masks(self.keep[rows], self.order[rows])

    def masked(self) -> Tensor:
        """1 where a point is masked, [row, D]."""
        threshold = self.order.sort(dim=1).values.gather(1, self.keep)
        return (self.order >= threshold).to(self.order.dtype)


def _optimizer(model: Vae, schedule: Schedule, *, captured: bool, replicas: Replicas) -> Soap:
    """SOAP with a larger rate for the log scale: at the rate of the networks it lags the residuals for most of a run.

    Weight decay applies to the networks only, so that it draws the model towards the linear one.
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
    parts = [{"params": groups[kind], **settings[kind]} for kind in groups if groups[kind]]
    return Soap(parts, lr=schedule.learning_rate, captured=captured, replicas=replicas)


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """The random generator of an epoch."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
