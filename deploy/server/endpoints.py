"""Endpoints: the five graphs of a bundle as functions of named tensors, independent of the protocol.

Names, types and shapes are those of the ONNX graphs, so that clients of this server work with any server that runs the
graphs.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploy.server.errors import LateError, RefusedError
from deploy.server.oip_protocol import DATATYPES, Input
from vae.runtime import SurfaceModel, VectorModel

Model = SurfaceModel | VectorModel

Array = NDArray[Any]
Tensors = Mapping[str, Array]

ANY = -1  # length of an axis


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the ValueError with which the runtime refuses values into RefusedError."""
    try:
        yield
    except ValueError as error:
        raise RefusedError(str(error)) from error


def check_time(deadline: float) -> None:
    """Raise LateError once a deadline, on the clock ``time.monotonic``, has passed."""
    if time.monotonic() > deadline:
        raise LateError


class Tensor(NamedTuple):
    """Name, type and shape of an input or output.

    Attributes:
        name: of the graph's input or output.
        datatype: its name in the Open Inference Protocol.
        shape: ``ANY`` for an axis of any length.
        optional: whether a call may leave the input out.
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
class Endpoint:
    """One graph of a bundle; the protocol calls it a model.

    Attributes:
        name: of the graph's file, without the suffix.
        inputs: in the order of the graph.
        outputs: in the order of the graph.
        call: outputs of checked inputs.
        most: rows of one call; larger requests become several calls, with a check of the deadline between them.
        quick: rows up to which a call takes less time than its hand-over to another thread.
        batched: whether each row of the inputs becomes a row of the outputs.
        rows: number of rows of the outputs, given inputs.
        part: the inputs for a slice of these rows.
        header_cache: parsed headers of requests, by their JSON; it ends with the endpoint.
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
    header_cache: dict[bytes, Any] = field(default_factory=dict)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of the outputs for one row."""
        return sum(DATATYPES[o.datatype].itemsize * math.prod(map(abs, o.shape)) for o in self.outputs)


def make_endpoints(model: Model) -> dict[str, Endpoint]:
    """The endpoints of a model by name."""
    completer = _vector_completer(model) if isinstance(model, VectorModel) else _completer(model)
    found = (_decoder(model), _encoder(model), _sampler(model), completer, _scorer(model))
    return {each.name: each for each in found}


def check(endpoint: Endpoint, inputs: Sequence[Input]) -> None:
    """Raise RefusedError unless an endpoint can read inputs of these names, types and shapes."""
    known = {tensor.name: tensor for tensor in endpoint.inputs}
    given = {tensor.name: tensor for tensor in inputs}
    for name in given.keys() - known.keys():
        raise RefusedError(f"{endpoint.name} has no input {name!r}; it has {', '.join(known)}")
    for name, tensor in known.items():
        if name in given:
            _check_tensor(endpoint.name, tensor, given[name])
        elif not tensor.optional:
            raise RefusedError(f"{endpoint.name} needs the input {name!r}")
    if endpoint.batched and len({tensor.shape[0] for tensor in inputs}) > 1:
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in inputs)
        raise RefusedError(f"the inputs of {endpoint.name} differ in their numbers of rows: {shapes}")


def check_outputs(endpoint: Endpoint, wanted: Iterable[str]) -> None:
    """Raise RefusedError unless an endpoint has outputs of these names."""
    names = [output.name for output in endpoint.outputs]
    if unknown := set(wanted).difference(names):
        raise RefusedError(f"{endpoint.name} has no output {min(unknown)!r}; it has {', '.join(names)}")


def run(endpoint: Endpoint, inputs: Tensors, *, deadline: float) -> dict[str, Array]:
    """Outputs of checked inputs.

    Args:
        endpoint: to call.
        inputs: that ``check`` accepted.
        deadline: on the clock ``time.monotonic``.

    Raises:
        RefusedError: the graph cannot read the values.
        LateError: the deadline passed.
    """
    parts = []
    for part in _parts(endpoint, inputs):
        check_time(deadline)
        with refusing():
            parts.append(endpoint.call(part))
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def warm_up(model: Model) -> None:
    """Call every graph once.

    Raises:
        ValueError: a graph cannot run, or gives values that are not finite; or the middle surface has a vol below 0.
    """
    middle = model.decode(np.zeros((1, model.latents), np.float32))
    if isinstance(model, SurfaceModel) and (middle <= 0.0).any():
        raise ValueError("the decoder gives vols for its middle surface that are not positive")
    for name, outputs in _test_calls(model, middle):
        if not all(np.isfinite(values).all() for values in outputs):
            raise ValueError(f"{name} gives values that are not finite")


def _test_calls(model: Model, middle: Array) -> Iterator[tuple[str, Sequence[ArrayLike]]]:
    """Outputs of each graph for one sample or for the middle surface or vector, the sampler first."""
    yield "sampler", model.draw(1, seed=0)
    yield "decoder", (middle,)
    yield "encoder", model.encode(middle)
    yield "scorer", model.score(middle)
    if isinstance(model, VectorModel):
        yield "completer", model.complete(middle)
    else:
        found = model.complete(middle[0])
        yield "completer", (found.iv, found.std, found.latents, found.misfit, found.p_value, found.noise)


def _decoder(model: Model) -> Endpoint:
    return Endpoint(
        "decoder",
        inputs=(Tensor("z", "FP32", (ANY, model.latents)),),
        outputs=(_data(model),),
        call=lambda inputs: {model.layout.tensor: model.decode(inputs["z"])},
        most=model.block,
        quick=64,
    )


def _encoder(model: Model) -> Endpoint:
    z = (ANY, model.latents)
    return Endpoint(
        "encoder",
        inputs=_data_inputs(model),
        outputs=(Tensor("mean", "FP32", z), Tensor("std", "FP32", z)),
        call=lambda inputs: model.encode(_with_gaps(model, inputs))._asdict(),
        most=model.block,
        quick=1,
    )


def _scorer(model: Model) -> Endpoint:
    kind = "FP64" if isinstance(model, VectorModel) else "FP32"
    outputs = (
        *(Tensor(name, kind, (ANY,)) for name in ("nats", "misfit", "distance")),
        Tensor("error", kind, (ANY, *model.layout.shape)),
    )

    def call(inputs: Tensors) -> dict[str, Array]:
        scores = model.score(_with_gaps(model, inputs))
        return {output.name: getattr(scores, output.name) for output in outputs}

    return Endpoint(
        "scorer",
        inputs=_data_inputs(model),
        outputs=outputs,
        call=call,
        most=256,
    )


def _sampler(model: Model) -> Endpoint:
    def call(inputs: Tensors) -> dict[str, Array]:
        drawn, latents = model.draw(
            int(inputs["count"][0]),
            seed=int(inputs["key"][0]),
            offset=int(inputs.get("offset", (0,))[0]),
            temperature=float(inputs.get("temperature", (1.0,))[0]),
            prior="standard_normal" if inputs.get("standard_normal", (False,))[0] else "fitted",
            **({} if isinstance(model, VectorModel) else _asked(model, inputs)),
        )
        return {model.layout.tensor: drawn, "z": latents}

    return Endpoint(
        "sampler",
        inputs=(
            Tensor("key", "UINT64", (1,)),
            Tensor("offset", "INT64", (1,), optional=True),
            Tensor("count", "INT64", (1,)),
            Tensor("temperature", "FP32", (1,), optional=True),
            Tensor("standard_normal", "BOOL", (1,), optional=True),
            *(() if isinstance(model, VectorModel) else _asked_inputs(model)),
        ),
        outputs=(_data(model), Tensor("z", "FP32", (ANY, model.latents))),
        call=call,
        most=model.block,
        quick=16,
        batched=False,
        rows=lambda inputs: max(int(inputs["count"][0]), 0),  # the runtime refuses a negative count
        part=_rows_of_samples,
    )


def _asked(model: SurfaceModel, inputs: Tensors) -> dict[str, Any]:
    """The conditions and the market that samples are asked for."""
    values = zip(model.conditions, inputs.get("conditions", _NONE).tolist(), strict=False)
    conditions = {name: value for name, value in values if not math.isnan(value)}
    return {"conditions": conditions, "market": _market(model, inputs)}


def _asked_inputs(model: SurfaceModel) -> tuple[Tensor, ...]:
    """Inputs of the sampler that say what samples are asked for."""
    conditions = (Tensor("conditions", "FP32", (len(model.conditions),), optional=True),) if model.conditions else ()
    return (*conditions, *_market_input(model))


def _completer(model: SurfaceModel) -> Endpoint:
    def call(inputs: Tensors) -> dict[str, Array]:
        found = model.complete(
            inputs["iv"],
            tenor=inputs["tenor"],
            log_moneyness=inputs["log_moneyness"],
            weight=inputs.get("weight", 1.0),  # what the graph says, without an estimate of noise
            market=_market(model, inputs),
        )
        return {
            "surface": found.iv,
            "std": found.std,
            "z": found.latents,
            "fitted": found.fitted,
            "fitted_std": found.fitted_std,
            "misfit": np.array([found.misfit], np.float32),
            "p_value": np.array([found.p_value], np.float32),
            "used": found.used,
        }

    column, surface = (ANY,), model.grid.shape
    return Endpoint(
        "completer",
        inputs=(
            Tensor("log_moneyness", "FP32", column),
            Tensor("tenor", "FP32", column),
            Tensor("iv", "FP32", column),
            Tensor("weight", "FP32", column, optional=True),
            *_market_input(model),
        ),
        outputs=(
            Tensor("surface", "FP32", surface),
            Tensor("std", "FP32", surface),
            Tensor("z", "FP32", (model.latents,)),
            Tensor("fitted", "FP32", column),
            Tensor("fitted_std", "FP32", column),
            Tensor("misfit", "FP32", (1,)),
            Tensor("p_value", "FP32", (1,)),
            Tensor("used", "BOOL", column),
        ),
        call=call,
        most=1,
        batched=False,
        rows=lambda _: 1,
        part=lambda inputs, _: inputs,
    )


def _vector_completer(model: VectorModel) -> Endpoint:
    def call(inputs: Tensors) -> dict[str, Array]:
        mean, std, latents = model.complete(_with_gaps(model, inputs)[None])
        return {"mean": mean[0], "std": std[0], "z": latents[0]}

    points = (model.dimension,)
    return Endpoint(
        "completer",
        inputs=(Tensor("x", "FP32", points), Tensor("mask", "FP32", points)),
        outputs=(Tensor("mean", "FP32", points), Tensor("std", "FP32", points), Tensor("z", "FP32", (model.latents,))),
        call=call,
        most=1,
        batched=False,
        rows=lambda _: 1,
        part=lambda inputs, _: inputs,
    )


_NONE = np.empty(0, np.float32)


def _market_input(model: SurfaceModel) -> tuple[Tensor, ...]:
    """The place of a market in the manifest's list, -1 for none; no input where the market is no condition."""
    return (Tensor("market", "INT64", (1,), optional=True),) if model.market_is_condition else ()


def _market(model: SurfaceModel, inputs: Tensors) -> str | None:
    """The market that a request names.

    Raises:
        ValueError: the model does not have so many.
    """
    place = int(inputs.get("market", (-1,))[0])
    if not -1 <= place < len(model.markets):
        raise ValueError(f"market is {place}; allowed: -1 for none, 0 to {len(model.markets) - 1}")
    return None if place == -1 else model.markets[place]


def _data_inputs(model: Model) -> tuple[Tensor, ...]:
    """Inputs of encoder and scorer: the data, and the mask of their known points if the model reads one."""
    data = _data(model)
    mask = (Tensor("mask", "FP32", data.shape, optional=True),) if model.manifest["reads_missing"] else ()
    return (data, *mask)


def _data(model: Model) -> Tensor:
    """Surfaces or vectors."""
    return Tensor(model.layout.tensor, "FP32", (ANY, *model.layout.shape))


def _with_gaps(model: Model, inputs: Tensors) -> Array:
    """Surfaces or vectors with NaN at the points whose mask is 0."""
    data, mask = inputs[model.layout.tensor], inputs.get("mask")
    return data if mask is None else np.where(mask > 0.5, data, np.float32(np.nan))


def _rows_of_samples(inputs: Tensors, rows: slice) -> Tensors:
    """Inputs of the sampler for a slice of the samples of a request."""
    offset = inputs.get("offset", np.zeros(1, np.int64))
    return {**inputs, "offset": offset + rows.start, "count": np.array([rows.stop - rows.start])}


def _parts(endpoint: Endpoint, inputs: Tensors) -> Iterator[Tensors]:
    """The inputs of each call; the inputs themselves if one call is enough."""
    count = endpoint.rows(inputs)
    if count <= endpoint.most:
        yield inputs
        return
    for start in range(0, count, endpoint.most):
        yield endpoint.part(inputs, slice(start, min(start + endpoint.most, count)))


def _check_tensor(model: str, tensor: Tensor, given: Input) -> None:
    if given.datatype != tensor.datatype:
        raise RefusedError(f"input {tensor.name!r} has datatype {given.datatype}; {model} reads {tensor.datatype}")
    if len(given.shape) != len(tensor.shape) or any(
        wanted not in (ANY, found) for wanted, found in zip(tensor.shape, given.shape, strict=True)
    ):
        raise RefusedError(f"input {tensor.name!r} has shape {list(given.shape)}; {model} reads {list(tensor.shape)}")
