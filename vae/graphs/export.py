"""The trained model as ONNX graphs.

Inputs and outputs are decimal vols and latents; all scaling is inside the graphs.
"""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping

import onnx
import torch
from torch import Tensor, nn

from vae.model.autoencoder import Vae
from vae.model.completion import check_gaussian
from vae.model.laplace import log_evidence
from vae.surface.grid import Grid

OPSET = 18
IR_VERSION = 9  # the newest pair that onnxruntime 1.17 and later all load; see docs/formats.md
SCORE_STEPS = 3


class Decoder(nn.Module):
    """z [batch, latent] -> iv [batch, tenor, node]."""

    def __init__(self, model: Vae, grid: Grid) -> None:
        super().__init__()
        self.model, self.shape = model, grid.shape

    def forward(self, z: Tensor) -> Tensor:
        """Decimal vols of the decoder mean."""
        iv: Tensor = self.model.expand(self.model.decode(z)).unflatten(-1, self.shape)
        return iv


class HalfDecoder(nn.Module):
    """The decoder in half precision, which is twice as fast on GPUs; the centre is added in single precision."""

    def __init__(self, model: Vae, grid: Grid) -> None:
        super().__init__()
        self.network, self.center, self.shape = model.half(), model.center.float(), grid.shape
        self.transform = model.architecture.transform

    def forward(self, z: Tensor) -> Tensor:
        """Decimal vols of the decoder mean, in single precision."""
        iv: Tensor = self.center + (self.network.decode(z.half()) @ self.network.basis.T).float()
        vols: Tensor = (iv.exp() if self.transform == "log" else iv).unflatten(-1, self.shape)
        return vols


class Encoder(nn.Module):
    """iv and mask [batch, tenor, node] -> mean and std of the posterior, both [batch, latent].

    The mask is 1 where a point is known and 0 where it is missing; iv is ignored there. A model that was not trained to
    read missing points has no mask.
    """

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, iv: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation."""
        seen = self.model.read(iv.flatten(1), None if mask is None else 1.0 - mask.flatten(1))
        posterior = self.model.encode(seen.values, seen.missing)
        return posterior.mean, posterior.log_std.exp()


class Scorer(nn.Module):
    """iv and mask [batch, tenor, node] -> nats [batch], the log density of the known points.

    Raises:
        ValueError: the model's noise is not Gaussian.
    """

    def __init__(self, model: Vae) -> None:
        check_gaussian(model)
        super().__init__()
        self.model = model

    def forward(self, iv: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats of the density of decimal vols, by Laplace's approximation."""
        missing = None if mask is None else 1.0 - mask.flatten(1)
        return log_evidence(self.model, iv.flatten(1), missing, steps=SCORE_STEPS)


def decoder_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``decoder.onnx``: input z, output iv, single precision."""
    z = torch.zeros(2, model.architecture.latents)
    return finished(program(Decoder(model, grid), {"z": z}, outputs=["iv"], free={"z": {0: "batch"}}), metadata)


def half_decoder_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``decoder_fp16.onnx``: as ``decoder.onnx``, products in half precision."""
    z = torch.zeros(2, model.architecture.latents)
    half = HalfDecoder(copy.deepcopy(model), grid)
    return finished(program(half, {"z": z}, outputs=["iv"], free={"z": {0: "batch"}}), metadata)


def encoder_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``encoder.onnx``: inputs iv and mask, outputs mean and std, single precision."""
    return finished(_of_surfaces(Encoder(model), model, grid, ["mean", "std"]), metadata)


def scorer_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``scorer.onnx``: inputs iv and mask, output nats, single precision."""
    return finished(_of_surfaces(Scorer(model), model, grid, ["nats"]), metadata)


def _of_surfaces(module: nn.Module, model: Vae, grid: Grid, outputs: list[str]) -> onnx.ModelProto:
    """The graph of a module that reads surfaces, with a mask where the model reads missing points."""
    surfaces = {"iv": torch.full((2, *grid.shape), 0.2)}
    if model.architecture.sees_missing:
        surfaces["mask"] = torch.ones(2, *grid.shape)
    return program(module, surfaces, outputs=outputs, free={name: {0: "batch"} for name in surfaces})


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
    shapes = [{axis: sizes[size] for axis, size in free.get(name, {}).items()} or None for name in inputs]
    with _quiet_exporter(), torch.no_grad():
        found = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(shapes),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if found is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = found.model_proto
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
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnx_ir")}
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
