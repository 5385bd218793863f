"""Wire format of the Open Inference Protocol v2 with binary tensors: bytes to typed requests, answers to bytes.

All functions are pure. Tensors travel as JSON numbers, in which null stands for NaN, or as little-endian bytes in
row-major order behind the JSON; the HTTP header ``Inference-Header-Content-Length`` then gives the length of the JSON.

Reference: https://github.com/kserve/open-inference-protocol, ``specification/protocol/inference_rest.md``; Triton's
``docs/protocol/extension_binary_data.md``.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from deploy.server import json_arrays, json_keys
from deploy.server.answers import to_json
from deploy.server.errors import ProtocolError

Array = NDArray[Any]

DATATYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "INT64": np.dtype("<i8"),
        "UINT64": np.dtype("<u8"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
    }
)
HEADER_LENGTH = "inference-header-content-length"

_MOST_AXES, _LONGEST_AXIS = 4, 2**31
_Shape = Annotated[list[Annotated[int, Meta(ge=1, lt=_LONGEST_AXIS)]], Meta(max_length=_MOST_AXES)]


_Name = Annotated[str, Meta(max_length=256)]  # which a refusal quotes
_NULL = b"null"
_NO_DATA = msgspec.Raw(_NULL)


# A field that is not named here is passed over, and null is the same as no field: clients of other servers send
# model_name, content_type and parameters of their own. The path alone says which model is asked.
class _InputParameters(msgspec.Struct, frozen=True):
    binary_data_size: Annotated[int, Meta(ge=0)] | None = None


class _Input(msgspec.Struct, frozen=True):
    name: _Name
    shape: _Shape
    datatype: _Name
    data: msgspec.Raw = _NO_DATA  # read once the shape is known to be right
    parameters: _InputParameters | None = None


class _OutputParameters(msgspec.Struct, frozen=True):
    binary_data: bool | None = None


class _Output(msgspec.Struct, frozen=True):
    name: _Name
    parameters: _OutputParameters | None = None


class _Parameters(msgspec.Struct, frozen=True):
    binary_data_output: bool | None = None


class _Header(msgspec.Struct, frozen=True):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Header)


class Input(NamedTuple):
    """An input tensor as the JSON of a request describes it.

    Attributes:
        data: its numbers as JSON; None for a binary tensor.
        size: bytes of a binary tensor, which follow the JSON; None if the numbers are in ``data``.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | None
    size: int | None


class Request(NamedTuple):
    """The JSON of a request.

    Attributes:
        id: the answer returns it; None for none.
        inputs: with distinct names.
        size: bytes of binary tensors that follow the JSON.
        outputs: for each wanted output, whether it is wanted in binary; None for all outputs.
        binary: whether outputs are wanted in binary by default.
    """

    id: str | None
    inputs: tuple[Input, ...]
    size: int
    outputs: Mapping[str, bool] | None
    binary: bool


class Answer(NamedTuple):
    """A body, and the length of its JSON; None if no binary tensors follow."""

    body: bytes
    header_length: int | None


def json_length(header: bytes | None, body_length: int) -> int:
    """The length of the JSON at the start of a body.

    Args:
        header: value of ``Inference-Header-Content-Length``; None for a body that is JSON only.
        body_length: bytes of the body.

    Raises:
        ProtocolError: the header is not a length within the body.
    """
    if header is None:
        return body_length
    if not (header.isdigit() and len(header) < 20 and int(header) <= body_length):
        value = header[:20].decode("latin-1")
        raise ProtocolError(f"{HEADER_LENGTH} is {value!r}; allowed: 0 to {body_length}, the length of the body")
    return int(header)


def check_shape(tensor: Input) -> None:
    """Raise ProtocolError unless the shape of a tensor is one that JSON may have too."""
    if len(tensor.shape) > _MOST_AXES or not all(1 <= length < _LONGEST_AXIS for length in tensor.shape):
        raise ProtocolError(f"input {tensor.name[:100]!r} has shape {list(tensor.shape)[:8]}; axes are 1 or longer")


def read(content: bytes | memoryview) -> Request:
    """The request that JSON describes.

    Raises:
        ProtocolError: it breaks the protocol.
    """
    try:
        header = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the request is not one of the protocol: {error}") from error
    json_keys.check(bytes(content))
    inputs: dict[str, Input] = {}
    for tensor in header.inputs:
        if tensor.name in inputs:
            raise ProtocolError(f"input {tensor.name!r} is given twice")
        inputs[tensor.name] = _checked(tensor)
    size = sum(declared.size or 0 for declared in inputs.values())
    binary = bool(header.parameters and header.parameters.binary_data_output)
    return Request(header.id, tuple(inputs.values()), size, _wanted(header.outputs, binary=binary), binary)


def tensors(request: Request, body: bytes, start: int) -> dict[str, Array]:
    """The inputs of a request by name; the binary ones begin at offset ``start`` of the body.

    Raises:
        ProtocolError: the body has another size, or data are not as declared.
    """
    if len(body) - start != request.size:
        raise ProtocolError(
            f"the binary tensors have {len(body) - start} bytes, but binary_data_size says {request.size}"
        )
    found: dict[str, Array] = {}
    for tensor in request.inputs:
        if tensor.size is None:
            found[tensor.name] = _of_json(tensor)
        else:
            array: Array = np.ndarray(tensor.shape, DATATYPES[tensor.datatype], body, start)
            # numpy and onnxruntime are slow on unaligned arrays, or refuse them
            found[tensor.name] = array if array.flags.aligned else array.copy()
            start += tensor.size
    return found


def encode(
    model: str, version: str, request_id: str | None, wanted: Mapping[str, bool], outputs: Mapping[str, Array]
) -> Answer:
    """The answer to a request.

    Args:
        model: its name.
        version: of the model.
        request_id: of the request; None for none.
        wanted: for each wanted output, whether it is wanted in binary.
        outputs: of the model, by name.
    """
    parts: list[bytes | memoryview] = []
    described: list[dict[str, object]] = []
    for name, binary in wanted.items():
        array = outputs[name]
        tensor: dict[str, object] = {"name": name, "datatype": datatype(array), "shape": list(array.shape)}
        if binary:
            parts.append(content_of(array))
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            tensor["data"] = json_arrays.in_pieces(array.ravel())
        described.append(tensor)
    header: dict[str, object] = {"model_name": model, "model_version": version, "outputs": described}
    if request_id is not None:
        header["id"] = request_id
    content = to_json(header)
    return Answer(b"".join((content, *parts)), len(content)) if parts else Answer(content, None)


def content_of(array: Array) -> bytes | memoryview:
    """An array's bytes, little-endian and row by row."""
    return array.data if array.ndim and array.size else array.tobytes()


def datatype(array: Array) -> str:
    """The protocol's name for the type of an array."""
    return _NAMES[array.dtype]


_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def _wanted(outputs: Sequence[_Output] | None, *, binary: bool) -> dict[str, bool] | None:
    """Whether each output is wanted in binary."""
    if not outputs:
        return None
    wanted: dict[str, bool] = {}
    for output in outputs:
        if output.name in wanted:
            raise ProtocolError(f"output {output.name!r} is asked for twice")
        own = output.parameters.binary_data if output.parameters else None
        wanted[output.name] = binary if own is None else own
    return wanted


def _checked(tensor: _Input) -> Input:
    """The description of a tensor, if it does not contradict itself."""
    dtype, name = DATATYPES.get(tensor.datatype), tensor.name
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    text = bytes(tensor.data)
    data = None if text == _NULL else text
    if dtype is None:
        raise ProtocolError(f"input {name!r} has datatype {tensor.datatype!r}; allowed: {', '.join(DATATYPES)}")
    if data is not None and size is not None:
        raise ProtocolError(f"input {name!r} has both data and binary_data_size")
    if data is None and size is None:
        raise ProtocolError(f"input {name!r} has neither data nor binary_data_size")
    if size is not None and size != (wanted := math.prod(tensor.shape) * dtype.itemsize):
        raise ProtocolError(
            f"input {name!r} has binary_data_size {size}; shape {tensor.shape} of {tensor.datatype} takes {wanted}"
        )
    return Input(name, tensor.datatype, tuple(tensor.shape), data, size)


def _of_json(tensor: Input) -> Array:
    """A tensor from JSON, nested or in one list."""
    try:
        return json_arrays.read(tensor.data or b"", tensor.shape, DATATYPES[tensor.datatype], may_be_flat=True)
    except json_arrays.ShapeError as error:
        raise ProtocolError(f"input {tensor.name!r} has data that is not of shape {list(tensor.shape)}") from error
    except json_arrays.KindError as error:
        raise ProtocolError(f"input {tensor.name!r} has data that is not {tensor.datatype}") from error
    except json_arrays.RangeError as error:
        limits = np.iinfo(DATATYPES[tensor.datatype])
        raise ProtocolError(
            f"input {tensor.name!r} has data out of the range of {tensor.datatype}: {limits.min} to {limits.max}"
        ) from error
