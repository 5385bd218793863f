"""``completer.onnx`` of a bundle of vectors: from known points of a vector to all, with their deviations."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vae.graphs.export import finished
from vae.graphs.search import MODE, PointStart, point_names, point_problem, point_step, search_graph
from vae.model import completion, laplace
from vae.model.autoencoder import Vae


def vector_completer_graph(model: Vae, metadata: Mapping[str, str]) -> bytes:
    """``completer.onnx``: inputs x and mask, both [D]; the mask is 1 where a point is known.

    Outputs are the mean and the standard deviation of each point [D], and the most probable latents z [latent]. Inputs
    and outputs are in single precision, the search in the model's: in double, it takes the same steps everywhere.
    """
    vector = torch.full((model.architecture.dimension,), 0.5)
    graph = search_graph(
        Start(model),
        point_step(model),
        End(model),
        {"x": vector, "mask": torch.ones_like(vector)},
        posed=point_names(model),
        end_reads=MODE,
        outputs=["mean", "std", "z"],
        free={},
        most_steps=completion.MOST_STEPS,
    )
    return finished(graph, metadata)


class Start(PointStart):
    """One vector [D] and its mask -> the problem, and the state before the first step."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """The parts of the problem, and those of the state."""
        return super().forward(x.unsqueeze(0), None if mask is None else mask.unsqueeze(0))


class End(nn.Module):
    """The problem and the end of the search -> the vector."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Mean and standard deviation [D], and latents."""
        problem, end = point_problem(parts[: -len(MODE)]), laplace.end_of_search(*parts[-len(MODE) :])
        found = completion.completion_at(self.model, *completion.end_at_points(self.model, problem, end))
        return tuple(part.squeeze(0).float() for part in (found.mean, found.std, found.latents))
