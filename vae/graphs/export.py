"""The trained model as ONNX graphs.

Inputs and outputs are latents, and decimal vols or vectors in the units of their data: all scaling is inside.
"""

import contextlib
import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping

import onnx
import torch
from torch import Tensor, nn

from vae.bundle import Layout
from vae.graphs.decoding import FoldedDecoder
from vae.graphs.elimination import with_eliminations
from vae.graphs.operator_table import one_table
from vae.graphs.simplification import simplified
from vae.model.autoencoder import Vae

OPSET = 18
IR_VERSION = 9  # the newest pair that onnxruntime 1.17 and later all load; see docs/formats.md


class Decoder(nn.Module):
    """z [batch, latent] -> surfaces [batch, tenor, node] or vectors [batch, D]; graphs are compared with this one."""

    def __init__(self, model: Vae, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.shape = model, shape

    def forward(self, z: Tensor) -> Tensor:
        """The decoder's means, medians or probabilities."""
        found: Tensor = self.model.expand(self.model.decode(z)).unflatten(-1, self.shape)
        return found


class HalfDecoder(nn.Module):
    """The decoder in half precision, which is twice as fast on GPUs; the centre is added in single precision."""

    def __init__(self, model: Vae, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.center, self.shape = model.natural_center.float(), shape
        self.network = model.half()

    def forward(self, z: Tensor) -> Tensor:
        """The decoder's means, medians or probabilities, in single precision."""
        natural = self.center + (self.network.decode(z.half()) @ self.network.basis.T).float()
        found: Tensor = self.network.observed(natural).unflatten(-1, self.shape)
        return found


class Encoder(nn.Module):
    """Surfaces or vectors and their mask -> mean and std of the posterior, both [batch, latent].

    The mask is 1 where a point is known and 0 where it is missing; the point is ignored there. A model that was not
    trained to read missing points has no mask.
    """

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation."""
        seen = self.model.read(x.flatten(1), None if mask is None else 1.0 - mask.flatten(1))
        posterior = self.model.encode(seen.values, seen.missing)
        return posterior.mean, posterior.log_std.exp()


def decoder_graph(model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``decoder.onnx``: input z, output iv or x, single precision."""
    return _of_latents(FoldedDecoder(model, layout.shape), model, layout, metadata)


def half_decoder_graph(model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``decoder_fp16.onnx``: as ``decoder.onnx``, products in half precision."""
    return _of_latents(HalfDecoder(copy.deepcopy(model), layout.shape), model, layout, metadata)


def encoder_graph(model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """``encoder.onnx``: inputs iv or x, and mask; outputs mean and std; single precision."""
    data = data_inputs(model, layout)
    graph = program(Encoder(model), data, outputs=["mean", "std"], free={name: {0: "batch"} for name in data})
    return finished(graph, metadata)


def _of_latents(module: nn.Module, model: Vae, layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """The graph of a decoder."""
    z = torch.zeros(2, model.architecture.latents)
    return finished(program(module, {"z": z}, outputs=[layout.tensor], free={"z": {0: "batch"}}), metadata)


def data_inputs(model: Vae, layout: Layout) -> dict[str, Tensor]:
    """Examples of surfaces or vectors, with a mask where the model reads missing points."""
    data = {layout.tensor: torch.full((2, *layout.shape), 0.2)}
    return data | ({"mask": torch.ones(2, *layout.shape)} if model.architecture.sees_missing else {})


def program(
    module: nn.Module, inputs: Mapping[str, Tensor], *, outputs: list[str], free: Mapping[str, Mapping[int, str]]
) -> onnx.ModelProto:
    """The ONNX graph of a module.

    Args:
        module: its inputs are tensors.
        inputs: example tensors by name. No tensor may stand for two inputs, as the exporter would merge these.
        outputs: names of the outputs.
        free: names of the free axes by input and axis; all other axes have the size of the example.
    """
    sizes = {name: torch.export.Dim(name) for axes in free.values() for name in axes.values()}
    shapes = tuple({axis: sizes[size] for axis, size in free.get(name, {}).items()} or None for name in inputs)
    kinds = {parameter.kind for parameter in inspect.signature(module.forward).parameters.values()}
    with _quiet_exporter(), one_table(), torch.no_grad():
        found = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=(shapes,) if inspect.Parameter.VAR_POSITIONAL in kinds else shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=False,
            verbose=False,
        )
        if found is None:
            raise RuntimeError("torch.onnx.export returned no program")
        proto = with_eliminations(simplified(found.model_proto, inputs, outputs))
    proto.ir_version = IR_VERSION
    return proto


def finished(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """The content of a checked ONNX file, without any trace of where and when it was made."""
    del proto.metadata_props[:], proto.opset_import[:]  # inlined functions leave their own opsets behind
    proto.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    _strip(proto.graph)
    proto.producer_name, proto.producer_version = "volvae", metadata["volvae_version"]
    for key in sorted(metadata):
        proto.metadata_props.add(key=key, value=metadata[key])
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _strip(graph: onnx.GraphProto) -> None:
    """Remove what differs between machines: stack traces with paths, and the exporter's shapes of constants."""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):  # the body of a loop
                _strip(attribute.g)
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's warnings about torchvision, which is not needed, and about its own code."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnx_ir", "onnxscript")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name")  # of a second input with the same free axis
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
