"""``completer.onnx`` of a bundle of vectors: from the known points of a vector to all of them, with their deviations.

The steps run in an ONNX ``Loop``, as those of ``vae.graphs.completer`` for surfaces.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vae.graphs.export import finished, program
from vae.graphs.onnx_loop import loop_graph
from vae.model import completion, laplace
from vae.model.autoencoder import Vae
from vae.model.laplace import SearchState

_POSED = ("points", "known")
_KEPT = ("z", "cost", "curvature")  # the parts of the state that the end reads


def vector_completer_graph(model: Vae, metadata: Mapping[str, str]) -> bytes:
    """``completer.onnx``: inputs x and mask, both [D]; the mask is 1 where a point is known.

    Outputs are the mean and the standard deviation of each point [D], and the most probable latents z [latent]. Inputs
    and outputs are in single precision, the search in the model's: in double, it takes the same steps everywhere.
    """
    vector = {name: torch.full((model.architecture.dimension,), 0.5) for name in ("x", "mask")}
    vector["mask"] = torch.ones_like(vector["mask"])
    first = Start(model)
    with torch.no_grad():
        made = [part.clone() for part in first(*vector.values())]
    posed = dict(zip(_POSED, made, strict=False))
    state = SearchState(*made[len(_POSED) :])._asdict()
    graph = loop_graph(
        program(first, vector, outputs=[*_POSED, *(f"first_{name}" for name in state)], free={}),
        program(
            Step(model),
            posed | {f"now_{name}": part for name, part in state.items()},
            outputs=["moving", *(f"next_{name}" for name in state)],
            free={},
        ),
        program(
            End(model),
            posed | {f"last_{name}": state[name] for name in _KEPT},
            outputs=["mean", "std", "z"],
            free={},
        ),
        state=SearchState._fields,
        condition="moving",
        most=completion.MOST_STEPS,
    )
    return finished(graph, metadata)


class Start(nn.Module):
    """A vector -> its points in the units of the model, which are known, and the state before the first step."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Points and known, both [1, D], and the parts of the state."""
        x, mask = (part.unsqueeze(0).to(self.model.center.dtype) for part in (x, mask))
        points, known, start = completion.prepare_points(self.model, x, 1.0 - mask)
        state = laplace.start_search(laplace.posterior_given_points(self.model, points, known), start)
        return points, known, *state


class Step(nn.Module):
    """The state before a step -> whether another step follows, and the state after it."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        points: Tensor,
        known: Tensor,
        z: Tensor,
        cost: Tensor,
        slope: Tensor,
        curvature: Tensor,
        damping: Tensor,
        change: Tensor,
    ) -> tuple[Tensor, ...]:
        """Whether another step follows, and the parts of the state."""
        posterior = laplace.posterior_given_points(self.model, points, known)
        after = laplace.search_step(posterior, SearchState(z, cost, slope, curvature, damping, change))
        return after.moving, *after


class End(nn.Module):
    """The points, which are known, and the end of the search -> the vector."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, known: Tensor, z: Tensor, cost: Tensor, curvature: Tensor) -> tuple[Tensor, ...]:
        """Mean and standard deviation [D], and latents."""
        mode = completion.mode_at_points(self.model, known, z, cost, curvature)
        found = completion.completion_at(self.model, mode, completion.errors_at_points(self.model, points, known, z))
        return tuple(part.squeeze(0).float() for part in (found.mean, found.std, found.latents))
