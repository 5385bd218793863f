"""Faults of params.yaml in words: the key, what is allowed, and what the user may have meant."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic_core import ErrorDetails

from pipeline.settings.types import Block

_UNKNOWN = "extra_forbidden"  # type of pydantic's fault for a key that there is not
_NOT_KEYS = "must hold keys with values, as 'key: value' or '{key: value}'"
_SELF_EXPLAINING = {"value_error", "missing"}
_TYPE = re.compile(r"[A-Z]|(list|dict)\[|function-")  # beginning of the name of a type; keys are in lower case


def in_words(found: Sequence[ErrorDetails], root: type[Block]) -> str:
    """All faults in one line, without the keys that are missing because they are misspelt.

    Args:
        found: the faults as pydantic tells them.
        root: the block that was read, all of params.yaml.
    """
    meant = {(*fault["loc"][:-1], _closest(fault, root)) for fault in found if fault["type"] == _UNKNOWN}
    told = (fault for fault in found if not (fault["type"] == "missing" and fault["loc"] in meant))
    return "; ".join(_fault(fault, root) for fault in told)


def _fault(fault: ErrorDetails, root: type[Block]) -> str:
    """One fault as ``key: message``, with what the user can do about it."""
    location, source = _place(fault)
    key = ".".join(map(str, location))
    if fault["type"] == "source":
        return f"{key}.{fault['msg']} (got {fault['input']['source']!r})"
    if fault["type"] == _UNKNOWN:
        meant = _elsewhere(str(location[-1]), root) or _closest(fault, root)
        question = f"did you mean {meant}? Allowed" if meant else "allowed"
        return f"{key} is not a key; {question}: {', '.join(_keys(location[:-1], root))}"
    message = _NOT_KEYS if fault["type"] in ("model_type", "dict_type") else str(fault["msg"])
    message = message.removeprefix("Value error, ")
    if fault["type"] == "missing" and source and len(location) == 2:
        message += f" where prepare.source is {source}"
    got = f" (got {fault['input']!r})" if fault["type"] not in _SELF_EXPLAINING else ""
    return f"{key}: {message}{got}" if key else f"{message}{got}"


def _place(fault: ErrorDetails) -> tuple[tuple[str | int, ...], str | int | None]:
    """The keys that lead to a fault, without what pydantic adds to them, and in ``prepare`` the source.

    Pydantic adds the name of the source, and the name of the type where a value may be of several.
    """
    location = fault["loc"]
    source = location[1] if location[:1] == ("prepare",) and len(location) > 1 else None
    keys = location if source is None else ("prepare", *location[2:])
    unknown = keys[-1:] if fault["type"] == _UNKNOWN else ()  # which may begin with a capital, as types do
    known = keys[: len(keys) - len(unknown)]
    return (*(part for part in known if not _TYPE.match(str(part))), *unknown), source


def _closest(fault: ErrorDetails, root: type[Block]) -> str | None:
    """The key of the same block that an unknown key may be a misspelling of."""
    (*block, name), _ = _place(fault)
    return next(iter(get_close_matches(str(name), _keys(block, root), n=1)), None)


def _elsewhere(name: str, root: type[Block]) -> str | None:
    """A key of this name in another block, with the keys that lead to it."""
    return next((path for path in _paths(root) if path.endswith(f".{name}")), None)


def _paths(block: type[Block], prefix: str = "") -> Iterator[str]:
    """All keys of a block and of the blocks in it, with the keys that lead to them."""
    for name, annotation in _fields(block).items():
        yield f"{prefix}{name}"
        for inner in _blocks(annotation):
            yield from _paths(inner, f"{prefix}{name}.")


def _keys(location: Sequence[str | int], root: type[Block]) -> list[str]:
    """Keys that the block at ``location`` may have."""
    block = root
    for part in location:
        block = next(_blocks(_fields(block).get(str(part))), block)  # which stays for the place in a list
    return list(_fields(block))


def _fields(block: type[Block]) -> dict[str, Any]:
    """The annotation of each key of a block."""
    return {field.alias or name: field.annotation for name, field in block.model_fields.items()}


def _blocks(annotation: Any) -> Iterator[type[Block]]:  # noqa: ANN401 - any type that a field may have
    """The blocks that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        yield annotation
    for part in get_args(annotation):
        yield from _blocks(part)
