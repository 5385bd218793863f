"""Frames like those of a film of a face: the bound with a noise decoded from the latents, and with one for all points.

The frames are made here: 1,670 of 28 x 20 grey pixels, as many as in the film of Brendan Frey's face that Kingma and
Welling (2014), arXiv:1312.6114, train on. Head, eyes and mouth move smoothly in time, and pixels are noisier where the
picture is bright and in frames of fast motion. Of each ten frames one is held out (`python -m benchmarks.frames`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from torch import Tensor

from benchmarks import card
from pipeline import train
from pipeline.settings.params import Params
from vae.evaluation import metrics
from vae.model.mixture import Mixture

Array = NDArray[np.float64]

FRAMES, HEIGHT, WIDTH = 1670, 28, 20
MARGIN = 50.0  # nats a frame
_PARAMS = Path("params.yaml")
_MOVES = 5  # of the head sideways and up, of the gaze, of mouth and brightness
_MEMORY = 0.97  # of a move, from frame to frame
_NOISE = 4.0  # grey levels, of a pixel of mean brightness in a calm frame
_EPOCHS = 60
_TRAIN: dict[str, Any] = {
    "scaffold_latents": 0, "batch": 128, "learning_rate": 2.0e-3, "hidden_share": 0.0,
    "arbitrage": {"epochs": 0}, "device": "cpu",
}  # fmt: skip
_MODEL: dict[str, Any] = {"latents": 8, "basis": 64, "width": 128, "depth": 2, "residual_factors": 0}


def main() -> None:
    """Print the figures."""
    found = results()
    card.show(found, *verdicts(found))


def results(epochs: int = _EPOCHS) -> dict[str, float]:
    """Held-out ELBO of a frame, in nats of the density of grey levels, with each kind of scale, and the difference."""
    frames = torch.from_numpy(film(seed=1)).float()
    test = torch.arange(len(frames)) % 10 == 9
    validation = torch.arange(len(frames)) % 10 == 4
    bounds = {
        scale: _bound(scale, frames[~test & ~validation], frames[validation], frames[test], epochs)
        for scale in ("shared", "decoded")
    }
    found = {f"frames_elbo_nats_{scale}": value for scale, value in bounds.items()}
    return found | {"frames_gain_of_decoded_nats": bounds["decoded"] - bounds["shared"]}


def verdicts(results: dict[str, float]) -> list[str]:
    """A line of text for the difference that must be reached."""
    gain = results["frames_gain_of_decoded_nats"]
    return [
        f"frames: a decoded scale gains {gain:.3g} nats a frame; the bar of {MARGIN:g} is "
        f"{'met' if gain >= MARGIN else 'missed'}"
    ]


def film(*, seed: int) -> Array:
    """Grey levels from 0 to 255, [frame, pixel]."""
    random = np.random.default_rng(seed)
    moves = np.zeros((FRAMES, _MOVES))
    for frame in range(1, FRAMES):
        step = np.sqrt(1.0 - _MEMORY**2) * random.standard_normal(_MOVES)
        moves[frame] = _MEMORY * moves[frame - 1] + step
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    right, down, gaze, mouth, light = (moves[:, place, None, None] for place in range(_MOVES))
    right, down = (WIDTH - 1) / 2 + 0.8 * right, (HEIGHT - 1) / 2 + 0.8 * down
    face = 150.0 * _spot(x, y, right, down, 8.0, 11.0)
    eyes = sum(_spot(x, y, right + side + 0.7 * gaze, down - 3.0, 1.6, 1.1) for side in (-3.5, 3.5))
    lips = _spot(x, y, right, down + 5.5, 3.0, 1.0 + 0.8 / (1.0 + np.exp(-1.5 * mouth)))
    picture = (1.0 + 0.15 * np.tanh(light)) * (40.0 + face - 90.0 * eyes - 70.0 * lips)
    motion = np.abs(np.diff(moves, axis=0, prepend=0.0)).mean(1)[:, None, None]
    noise = _NOISE * picture / picture.mean() * (0.5 + motion / motion.mean())
    noisy: Array = np.clip(picture + noise * random.standard_normal(picture.shape), 0.0, 255.0).reshape(FRAMES, -1)
    return noisy


def _spot(x: Array, y: Array, right: Array, down: Array, width: float, height: Array | float) -> Array:
    """A bright spot with these centres and half widths, [frame, row, column]."""
    return np.exp(-0.5 * (((x - right) / width) ** 2 + ((y - down) / height) ** 2) ** 2)


def _bound(scale: str, own: Tensor, validation: Tensor, test: Tensor, epochs: int) -> float:
    values = YAML(typ="safe").load(_PARAMS)
    values["train"] |= _TRAIN | {"epochs": epochs}
    values["train"]["model"] |= _MODEL | {"scale": scale}
    fit = train.new_trainer(Params.model_validate(values).train, own, validation)
    for _ in fit.epochs():
        pass
    prior = Mixture.standard_normal(_MODEL["latents"])
    model = train.best_model(fit)
    return metrics.likelihood_metrics(model, test.double(), samples=[1, 10], seed=7, prior=prior)["elbo_nats"]


if __name__ == "__main__":
    main()
