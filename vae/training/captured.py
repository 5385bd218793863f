"""Work on a CUDA device that is recorded once and then started whole.

A step of a small network takes a thousand kernels of a few microseconds each, and to start one takes as long. CUDA
starts a recorded sequence of kernels, a graph, in the time of one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_UNRECORDED = 3  # first calls, in which libraries allocate and tune what a recording may not


class Captured:
    """A function of tensors to tensors whose work on a device is the same at every call but for their numbers.

    Its first calls run as they are. The next one is recorded, with every tensor that it reads, writes or makes; later
    calls copy their arguments into those of the recording and start it. What a call returned is overwritten by the
    next, and so are tensors that the function keeps elsewhere, as ``backward`` keeps gradients.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]]) -> None:
        self._function = function
        self._stream = torch.cuda.Stream()
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._arguments: tuple[Tensor, ...] = ()
        self._results: Sequence[Tensor] = ()

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """The results of the function, after the work that was started before."""
        self._calls += 1
        if self._calls <= _UNRECORDED:
            return self._beside(arguments)
        if self._graph is None:
            self._record(arguments)
        for own, given in zip(self._arguments, arguments, strict=True):
            own.copy_(given)
        self._graph.replay()  # type: ignore[union-attr]  # recorded above
        return self._results

    def _beside(self, arguments: tuple[Tensor, ...]) -> Sequence[Tensor]:
        """Run the function on the stream of the recording, on which it must have run before."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            results = self._function(*arguments)
        torch.cuda.current_stream().wait_stream(self._stream)
        return results

    def _record(self, arguments: tuple[Tensor, ...]) -> None:
        self._arguments = tuple(given.clone() for given in arguments)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._results = self._function(*self._arguments)
