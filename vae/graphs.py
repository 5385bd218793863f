"""The trained model as ONNX graphs: vols and latents in, vols and posteriors out, all scaling inside."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping

import onnx
import torch
from torch import Tensor, nn

from vae.grid import Grid
from vae.model import Vae

OPSET = 18
IR_VERSION = 9  # the newest pair that onnxruntime 1.17 and later all load; see docs/formats.md


class Decoder(nn.Module):
    """z [batch, latent] -> iv [batch, tenor, node]."""

    def __init__(self, model: Vae, grid: Grid) -> None:
        super().__init__()
        self.model, self.shape = model, grid.shape

    def forward(self, z: Tensor) -> Tensor:
        """Decimal vols of the decoder mean."""
        iv: Tensor = self.model.expand(self.model.decode(z)).unflatten(-1, self.shape)
        return iv


class Encoder(nn.Module):
    """iv [batch, tenor, node] -> mean and std of the posterior, both [batch, latent]."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, iv: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation."""
        centred = self.model.inner(iv.flatten(1)) - self.model.center
        posterior = self.model.encode(centred @ self.model.basis)
        return posterior.mean, posterior.log_std.exp()


def decoder_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``decoder.onnx``: input z, output iv, single precision."""
    example = torch.zeros(2, model.architecture.latents)
    return _graph(Decoder(model, grid), example, inputs="z", outputs=["iv"], metadata=metadata)


def encoder_graph(model: Vae, grid: Grid, metadata: Mapping[str, str]) -> bytes:
    """``encoder.onnx``: input iv, outputs mean and std, single precision."""
    example = model.center.float().reshape(1, *grid.shape).repeat(2, 1, 1)
    return _graph(Encoder(model), example, inputs="iv", outputs=["mean", "std"], metadata=metadata)


def _graph(
    module: nn.Module, example: Tensor, *, inputs: str, outputs: list[str], metadata: Mapping[str, str]
) -> bytes:
    """One self-contained, checked file whose bytes depend on the weights and ``metadata`` alone."""
    module = module.eval()
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[inputs],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = program.model_proto
    _strip(proto)
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version = "volvae", metadata["volvae_version"]
    for key in sorted(metadata):
        proto.metadata_props.add(key=key, value=metadata[key])
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what the exporter says of the machine: stack traces with paths, its own shapes of constants."""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's warnings of torchvision, which is not needed, and of its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
