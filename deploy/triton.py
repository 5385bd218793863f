"""A bundle as a model repository of NVIDIA's Triton server, for its onnxruntime backend.

Reference: Triton's ``docs/user_guide/model_repository.md`` and ``model_configuration.md``.
"""

from pathlib import Path

from deploy.server.endpoints import Model, Tensor, models
from vae import bundle
from vae.runtime import SurfaceModel

_VERSION = "1"
_DATATYPES = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "UINT64": "TYPE_UINT64", "BOOL": "TYPE_BOOL"}


def write(source: Path, repository: Path) -> list[str]:
    """Write the models of a bundle into an empty folder; their names.

    Raises:
        BundleError: the bundle is missing, altered or of another format.
    """
    found = models(SurfaceModel.load(source, provider="cpu", threads=1))
    manifest = bundle.read_manifest(source)
    for name, model in found.items():
        folder = repository / name / _VERSION
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bundle.read_content(source / f"{name}.onnx", manifest))
        (repository / name / "config.pbtxt").write_text(config(model), "utf-8")
    return list(found)


def config(model: Model) -> str:
    """The text of config.pbtxt.

    Rows of decoder, encoder and scorer do not depend on each other, so that Triton may batch them; the others read and
    give tensors that share no axis.
    """
    # Where rows are batched Triton adds their axis by itself.
    skip = 1 if model.batched else 0
    lines = [
        f'name: "{model.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {model.most if model.batched else 0}",
        *(_tensor("input", tensor, skip) for tensor in model.inputs),
        *(_tensor("output", tensor, skip) for tensor in model.outputs),
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    ]
    if model.batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(kind: str, tensor: Tensor, skip: int) -> str:
    dims = ", ".join(map(str, tensor.shape[skip:]))
    if not dims:  # a number a row
        return f'{kind} {{ name: "{tensor.name}" data_type: {_DATATYPES[tensor.datatype]} dims: [ 1 ] reshape {{ }} }}'
    return f'{kind} {{ name: "{tensor.name}" data_type: {_DATATYPES[tensor.datatype]} dims: [ {dims} ] }}'
