"""Writes a bundle as a model repository of NVIDIA's Triton server, for its onnxruntime backend.

Reference: Triton's ``docs/user_guide/model_repository.md`` and ``model_configuration.md``.
"""

from pathlib import Path

from deploy.server.endpoints import Endpoint, Tensor, make_endpoints
from vae import bundle, runtime

_VERSION = "1"
_DATATYPES = {
    "FP32": "TYPE_FP32",
    "FP64": "TYPE_FP64",
    "INT64": "TYPE_INT64",
    "UINT64": "TYPE_UINT64",
    "BOOL": "TYPE_BOOL",
}


def write(source: Path, repository: Path) -> list[str]:
    """Write the graphs of a bundle into an empty folder; returns their names.

    Raises:
        BundleError: the bundle is missing, altered, not signed by the key that is set, or of another format.
    """
    endpoints = make_endpoints(runtime.load(source, provider="cpu", threads=1))
    _, graphs = bundle.read_whole(source, [f"{name}.onnx" for name in endpoints])
    for name, endpoint in endpoints.items():
        folder = repository / name / _VERSION
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(graphs[f"{name}.onnx"])
        (repository / name / "config.pbtxt").write_text(config(endpoint), "utf-8")
    return list(endpoints)


def config(endpoint: Endpoint) -> str:
    """The text of config.pbtxt.

    Triton may batch decoder, encoder and scorer, whose rows do not depend on each other. The tensors of sampler and
    completer share no axis of rows.
    """
    # Triton adds the axis of rows of a batched model by itself.
    skip = 1 if endpoint.batched else 0
    lines = [
        f'name: "{endpoint.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {endpoint.most if endpoint.batched else 0}",
        *(_tensor("input", tensor, skip) for tensor in endpoint.inputs),
        *(_tensor("output", tensor, skip) for tensor in endpoint.outputs),
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    ]
    if endpoint.batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(kind: str, tensor: Tensor, skip: int) -> str:
    dims = ", ".join(map(str, tensor.shape[skip:]))
    if not dims:  # one number per row
        return f'{kind} {{ name: "{tensor.name}" data_type: {_DATATYPES[tensor.datatype]} dims: [ 1 ] reshape {{ }} }}'
    return f'{kind} {{ name: "{tensor.name}" data_type: {_DATATYPES[tensor.datatype]} dims: [ {dims} ] }}'
