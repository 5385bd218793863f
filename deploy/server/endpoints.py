"""The five models of a bundle as named tensors in and out, whatever protocol carries them.

Names, types and shapes are those of the ONNX graphs, so that a client of this server is a client of any that runs the
graphs themselves.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploy.server.oip_protocol import DATATYPES, Input
from vae.runtime import SurfaceModel

Array = NDArray[Any]
Tensors = Mapping[str, Array]

ANY = -1  # length of an axis


class RefusedError(ValueError):
    """Inputs that a model cannot read, or an answer that would be too large; the message says why."""


class LateError(Exception):
    """The time of a call ran out."""


@contextmanager
def refusing() -> Iterator[None]:
    """What the runtime says of values that it cannot read, as RefusedError."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(str(error)) from error


class Tensor(NamedTuple):
    """What a model reads or gives.

    Attributes:
        name: of the graph's input or output.
        datatype: in the words of the protocol.
        shape: ``ANY`` for an axis of any length.
        optional: whether a call may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


def _rows(inputs: Tensors) -> int:
    return len(next(iter(inputs.values())))


def _part(inputs: Tensors, rows: slice) -> Tensors:
    return {name: array[rows] for name, array in inputs.items()}


@dataclass(frozen=True, eq=False)
class Model:
    """One of the models of a bundle.

    Attributes:
        name: of its graph, without the ending.
        inputs: in the order of the graph.
        outputs: in the order of the graph.
        call: outputs of checked inputs.
        most: rows of one call; between calls there is a look at the time.
        quick: rows up to which a call takes less time than to hand it to another thread.
        batched: whether a row of the inputs becomes a row of the outputs.
        rows: of the outputs, given inputs.
        part: inputs of some of these rows.
        plans: what is kept of the requests that say the same, by their JSON.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    call: Callable[[Tensors], dict[str, Array]]
    most: int
    quick: int = 0
    batched: bool = True
    rows: Callable[[Tensors], int] = _rows
    part: Callable[[Tensors, slice], Tensors] = _part
    plans: dict[bytes, Any] = field(default_factory=dict)

    @cached_property
    def row_bytes(self) -> int:
        """Of the outputs, for each row."""
        return sum(DATATYPES[o.datatype].itemsize * math.prod(map(abs, o.shape)) for o in self.outputs)


def models(model: SurfaceModel) -> dict[str, Model]:
    """The models by name."""
    found = (_decoder(model), _encoder(model), _sampler(model), _completer(model), _scorer(model))
    return {each.name: each for each in found}


def check(model: Model, inputs: Sequence[Input]) -> None:
    """Raise RefusedError unless a model can read inputs of these names, types and shapes."""
    known = {tensor.name: tensor for tensor in model.inputs}
    given = {tensor.name: tensor for tensor in inputs}
    for name in given.keys() - known.keys():
        raise RefusedError(f"{model.name} has no input {name!r}; it has {', '.join(known)}")
    for name, tensor in known.items():
        if name in given:
            _check_tensor(model.name, tensor, given[name])
        elif not tensor.optional:
            raise RefusedError(f"{model.name} needs the input {name!r}")
    if model.batched and len({tensor.shape[0] for tensor in inputs}) > 1:
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in inputs)
        raise RefusedError(f"the inputs of {model.name} differ in their numbers of rows: {shapes}")


def run(model: Model, inputs: Tensors, *, until: float) -> dict[str, Array]:
    """Outputs of checked inputs.

    Args:
        model: which.
        inputs: that ``check`` let pass.
        until: when it is too late, on the clock ``time.monotonic``.

    Raises:
        RefusedError: values that the model cannot read.
        LateError: the time ran out.
    """
    parts = []
    for part in _parts(model, inputs):
        if time.monotonic() > until:
            raise LateError
        with refusing():
            parts.append(model.call(part))
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def warm_up(model: SurfaceModel) -> None:
    """Call everything once.

    Raises:
        ValueError: something cannot run, or gives what is not finite.
    """
    for name, values in _answers(model):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} gives values that are not finite")


def _answers(model: SurfaceModel) -> Iterator[tuple[str, Array]]:
    """What each model makes of a sample, the sampler first."""
    drawn = model.draw(1, seed=0)
    yield "sampler", drawn.iv
    yield "decoder", model.decode(drawn.latents)
    yield "encoder", model.encode(drawn.iv).std
    yield "scorer", model.score(drawn.iv).nats
    yield "completer", model.complete(drawn.iv[0]).std


def _decoder(model: SurfaceModel) -> Model:
    return Model(
        "decoder",
        inputs=(Tensor("z", "FP32", (ANY, model.latents)),),
        outputs=(Tensor("iv", "FP32", (ANY, *model.grid.shape)),),
        call=lambda inputs: {"iv": model.decode(inputs["z"])},
        most=model.block,
        quick=64,
    )


def _encoder(model: SurfaceModel) -> Model:
    z = (ANY, model.latents)
    return Model(
        "encoder",
        inputs=_surfaces(model),
        outputs=(Tensor("mean", "FP32", z), Tensor("std", "FP32", z)),
        call=lambda inputs: model.encode(_with_gaps(inputs))._asdict(),
        most=model.block,
        quick=1,
    )


def _scorer(model: SurfaceModel) -> Model:
    return Model(
        "scorer",
        inputs=_surfaces(model),
        outputs=(Tensor("nats", "FP32", (ANY,)),),
        call=lambda inputs: {"nats": model.score(_with_gaps(inputs)).nats},
        most=256,
    )


def _sampler(model: SurfaceModel) -> Model:
    def call(inputs: Tensors) -> dict[str, Array]:
        draws = model.draw(
            int(inputs["count"][0]),
            seed=int(inputs["key"][0]),
            offset=int(inputs.get("offset", (0,))[0]),
            temperature=float(inputs.get("temperature", (1.0,))[0]),
            conditions={
                name: value
                for name, value in zip(model.conditions, inputs.get("conditions", _NONE).tolist(), strict=False)
                if not math.isnan(value)
            },
        )
        return {"iv": draws.iv, "z": draws.latents}

    asked = (Tensor("conditions", "FP32", (len(model.conditions),), optional=True),) if model.conditions else ()
    return Model(
        "sampler",
        inputs=(
            Tensor("key", "UINT64", (1,)),
            Tensor("offset", "INT64", (1,), optional=True),
            Tensor("count", "INT64", (1,)),
            Tensor("temperature", "FP32", (1,), optional=True),
            *asked,
        ),
        outputs=(Tensor("iv", "FP32", (ANY, *model.grid.shape)), Tensor("z", "FP32", (ANY, model.latents))),
        call=call,
        most=model.block,
        quick=16,
        batched=False,
        rows=lambda inputs: max(int(inputs["count"][0]), 0),  # the runtime refuses less than none
        part=_rows_of_samples,
    )


def _completer(model: SurfaceModel) -> Model:
    def call(inputs: Tensors) -> dict[str, Array]:
        found = model.complete(
            inputs["iv"],
            tenor=inputs["tenor"],
            log_moneyness=inputs["log_moneyness"],
            weight=inputs.get("weight"),
        )
        return {"surface": found.iv, "std": found.std, "z": found.latents, "fitted": found.fitted, "used": found.used}

    column, surface = (ANY,), model.grid.shape
    return Model(
        "completer",
        inputs=(
            Tensor("log_moneyness", "FP32", column),
            Tensor("tenor", "FP32", column),
            Tensor("iv", "FP32", column),
            Tensor("weight", "FP32", column, optional=True),
        ),
        outputs=(
            Tensor("surface", "FP32", surface),
            Tensor("std", "FP32", surface),
            Tensor("z", "FP32", (model.latents,)),
            Tensor("fitted", "FP32", column),
            Tensor("used", "BOOL", column),
        ),
        call=call,
        most=1,
        batched=False,
        rows=lambda _: 1,
        part=lambda inputs, _: inputs,
    )


_NONE = np.empty(0, np.float32)


def _surfaces(model: SurfaceModel) -> tuple[Tensor, ...]:
    """Surfaces as encoder and scorer read them."""
    shape = (ANY, *model.grid.shape)
    mask = (Tensor("mask", "FP32", shape, optional=True),) if model.manifest["reads_missing"] else ()
    return (Tensor("iv", "FP32", shape), *mask)


def _with_gaps(inputs: Tensors) -> Array:
    """Surfaces with NaN where the mask is 0."""
    iv, mask = inputs["iv"], inputs.get("mask")
    return iv if mask is None else np.where(mask > 0.5, iv, np.float32(np.nan))


def _rows_of_samples(inputs: Tensors, rows: slice) -> Tensors:
    """A request for some of the samples that a request asks for."""
    offset = inputs.get("offset", np.zeros(1, np.int64))
    return {**inputs, "offset": offset + rows.start, "count": np.array([rows.stop - rows.start])}


def _parts(model: Model, inputs: Tensors) -> Iterator[Tensors]:
    """The inputs of each call; they themselves where one will do."""
    count = model.rows(inputs)
    if count <= model.most:
        yield inputs
        return
    for start in range(0, count, model.most):
        yield model.part(inputs, slice(start, min(start + model.most, count)))


def _check_tensor(model: str, tensor: Tensor, given: Input) -> None:
    if given.datatype != tensor.datatype:
        raise RefusedError(f"input {tensor.name!r} has datatype {given.datatype}; {model} reads {tensor.datatype}")
    if len(given.shape) != len(tensor.shape) or any(
        wanted not in (ANY, found) for wanted, found in zip(tensor.shape, given.shape, strict=True)
    ):
        raise RefusedError(f"input {tensor.name!r} has shape {list(given.shape)}; {model} reads {list(tensor.shape)}")
