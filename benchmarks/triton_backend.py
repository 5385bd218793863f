"""Triton's backend ``onnxruntime`` in Python, as ``backends/onnxruntime/model.py``.

Triton's own one is a library of NVIDIA's images. This one runs the same graphs by the same onnxruntime, for a Triton
whose only backend is that of Python. It runs inside of Triton, in the environment of `make triton`.

Reference: Triton's ``docs/python_based_backends.md``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """One graph of a bundle, in the interface that Triton's backend of Python calls."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the graph of a model's folder, with the threads that its config.pbtxt names."""
        config = json.loads(args["model_config"])
        self.outputs = [output["name"] for output in config["output"]]
        self.batched = config["max_batch_size"] > 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The answers of requests, whose rows run in one call where Triton may batch them."""
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if not self.batched:
            return [_answer(self._run(each)) for each in feeds]
        ends = np.cumsum([len(next(iter(each.values()))) for each in feeds])[:-1]
        found = self._run({name: np.concatenate([each[name] for each in feeds]) for name in feeds[0]})
        parts = {name: np.split(array, ends) for name, array in found.items()}
        return [_answer({name: arrays[i] for name, arrays in parts.items()}) for i in range(len(feeds))]

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))


def _answer(outputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a class of Triton
    return triton.InferenceResponse([triton.Tensor(name, array) for name, array in outputs.items()])
