"""The settings of a training run, and what follows from them at each step: learning rate and weights of the KL."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SQUEEZE = (0.15, 0.55)  # part of the epochs in which the KL weight of scaffold latents grows; they go at its end
_SQUEEZE_WEIGHT = 300.0  # of their KL, at that end
_PENALISED_RATE = 0.25  # peak of the learning rate with a penalty, in units of that without


@dataclass(frozen=True)
class Schedule:
    """The settings of a training run.

    Attributes:
        epochs: passes over the training set.
        batch: surfaces of a step, over all processes.
        learning_rate: peak of the cosine schedule.
        scale_rate: learning rate of log scale, in units of ``learning_rate``.
        warmup_steps: steps of linear warm-up.
        gradient_clip: largest norm of the gradient of the loss (minus the ELBO in nats per observed point).
        seed: of all random numbers.
        scaffold_latents: auxiliary latents, which the model has until a growing weight of their KL has emptied them.
        beta: weight of the KL; 1 is the ELBO.
        beta_warmup_epochs: epochs over which that weight rises from 0.
        importance_samples: draws of the importance-weighted bound; 1 is the ELBO.
        hidden_share: share of the surfaces of a step that are read a second time with random points masked.
        patience_epochs: epochs without a better validation ELBO after which training stops; 0 for never.
        weight_decay: rate at which the weights of the networks shrink, in units of the learning rate.
        penalty_epochs: further epochs, in which the best model is trained against a penalty on its samples.
        penalty_samples: samples drawn in each step of those.
    """

    epochs: int
    batch: int
    learning_rate: float
    scale_rate: float
    warmup_steps: int
    gradient_clip: float
    seed: int
    scaffold_latents: int = 0
    beta: float = 1.0
    beta_warmup_epochs: int = 0
    importance_samples: int = 1
    hidden_share: float = 0.0
    patience_epochs: int = 0
    weight_decay: float = 0.0
    penalty_epochs: int = 0
    penalty_samples: int = 64

    @property
    def scaffold_epochs(self) -> int:
        """Epochs until the scaffold latents are dropped."""
        return math.ceil(_SQUEEZE[1] * self.epochs) if self.scaffold_latents else 0

    def rate(self, step: int, steps_of_epoch: int, *, scaffolded: bool) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to zero.

        The warm-up is repeated where an optimiser starts anew: after the scaffold is dropped, and for the epochs with
        a penalty, which have a cosine of their own.
        """
        peak, start, steps = self.learning_rate, 0, self.epochs * steps_of_epoch
        since = step if scaffolded else step - self.scaffold_epochs * steps_of_epoch
        if step >= steps:
            peak, start, steps = _PENALISED_RATE * peak, steps, self.penalty_epochs * steps_of_epoch
            since = step - start
        warmup = min(1.0, (since + 1) / max(self.warmup_steps, 1))
        return peak * warmup * 0.5 * (1.0 + math.cos(math.pi * (step - start) / steps))

    def kl_weights(self, epochs: float, like: Tensor, *, latents: int) -> Tensor:
        """Weight of the KL of each latent after so many epochs, in the shape, type and place of ``like`` [latent].

        Latents from number ``latents`` on are scaffold: their weight grows beside.
        """
        warmup = self.beta_warmup_epochs
        weights = torch.full_like(like, self.beta * (min(1.0, epochs / warmup) if warmup else 1.0))
        if len(like) > latents:
            begin, end = _SQUEEZE
            part = min(1.0, max(0.0, (epochs / self.epochs - begin) / (end - begin)))
            weights[latents:] += _SQUEEZE_WEIGHT * part**2
        return weights.detach()
