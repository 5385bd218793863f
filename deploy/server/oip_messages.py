"""Messages of the Open Inference Protocol over gRPC, as classes of protobuf.

The fields are those of the public ``.proto``; parameters are left out, so that they are passed over, as over HTTP. The
classes are made here, not by a compiler: generated code fits some versions of protobuf only.

Reference: https://github.com/kserve/open-inference-protocol, ``specification/protocol/open_inference_grpc.proto``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from deploy.server.varint import read_varint

__all__ = ["FIELDS", "MESSAGES", "MOST_FIELDS", "PACKAGE", "RAW_INPUTS", "SERVICE", "DecodeError", "rest_of"]

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_Field = tuple[str, int, str]  # name, number, and type: of protobuf, or another message; a list where it ends with []

_NAMED = (("name", 1, "string"), ("version", 2, "string"))
_TENSOR: tuple[_Field, ...] = (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "int64[]"))
_ANSWERED = (("model_name", 1, "string"), ("model_version", 2, "string"), ("id", 3, "string"))
FIELDS: Mapping[str, tuple[_Field, ...]] = MappingProxyType(
    {
        "ServerLiveRequest": (),
        "ServerLiveResponse": (("live", 1, "bool"),),
        "ServerReadyRequest": (),
        "ServerReadyResponse": (("ready", 1, "bool"),),
        "ModelReadyRequest": _NAMED,
        "ModelReadyResponse": (("ready", 1, "bool"),),
        "ServerMetadataRequest": (),
        "ServerMetadataResponse": (*_NAMED, ("extensions", 3, "string[]")),
        "ModelMetadataRequest": _NAMED,
        "TensorMetadata": _TENSOR,
        "ModelMetadataResponse": (
            ("name", 1, "string"),
            ("versions", 2, "string[]"),
            ("platform", 3, "string"),
            ("inputs", 4, "TensorMetadata[]"),
            ("outputs", 5, "TensorMetadata[]"),
        ),
        "InferTensorContents": (
            ("bool_contents", 1, "bool[]"),
            ("int64_contents", 3, "int64[]"),
            ("uint64_contents", 5, "uint64[]"),
            ("fp32_contents", 6, "float[]"),
            ("fp64_contents", 7, "double[]"),
        ),
        "InferInputTensor": (*_TENSOR, ("contents", 5, "InferTensorContents")),
        "InferRequestedOutputTensor": (("name", 1, "string"),),
        "InferOutputTensor": _TENSOR,
        "ModelInferRequest": (
            *_ANSWERED,
            ("inputs", 5, "InferInputTensor[]"),
            ("outputs", 6, "InferRequestedOutputTensor[]"),
            ("raw_input_contents", 7, "bytes[]"),
        ),
        "ModelInferResponse": (
            *_ANSWERED,
            ("outputs", 5, "InferOutputTensor[]"),
            ("raw_output_contents", 6, "bytes[]"),
        ),
    }
)
RAW_INPUTS = 7  # number of the field raw_input_contents
MOST_FIELDS = 1024  # of a request

_Proto = descriptor_pb2.FieldDescriptorProto


def _classes() -> dict[str, Any]:
    """The class of each message by its name, in a pool of its own: a client may have loaded the names elsewhere."""
    file = descriptor_pb2.FileDescriptorProto(name="volvae/oip.proto", package=PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            single = kind.removesuffix("[]")
            label = _Proto.LABEL_OPTIONAL if kind == single else _Proto.LABEL_REPEATED
            described = message.field.add(name=field, number=number, label=label)
            if single in FIELDS:
                described.type, described.type_name = _Proto.TYPE_MESSAGE, f".{PACKAGE}.{single}"
            else:
                described.type = _Proto.Type.Value(f"TYPE_{single.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


MESSAGES: Mapping[str, Any] = MappingProxyType(_classes())


def rest_of(content: bytes) -> tuple[int, int]:
    """How many fields a request to infer has, and the bytes of all but its raw tensors; before it is parsed.

    It ends at the first field beyond ``MOST_FIELDS``, as a body of small fields would keep the event loop for seconds.

    Raises:
        ValueError: it is no message.
    """
    place = fields = rest = 0
    while place < len(content) and fields <= MOST_FIELDS:
        fields, start = fields + 1, place
        tag, place = read_varint(content, place)
        kind = tag & 7
        if kind == 2:
            size, place = read_varint(content, place)
            place += size
        elif kind == 0:
            _, place = read_varint(content, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of type {kind}")
        rest += 0 if tag >> 3 == RAW_INPUTS else place - start
    if place > len(content):
        raise ValueError("it ends too early")
    return fields, rest
