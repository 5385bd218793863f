"""Blocks of params.yaml: shown as text, and written into the file with its comments and other keys kept."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline import yaml_text
from pipeline.cli.suggested_settings import FEWEST_SURFACES
from pipeline.errors import InputError
from pipeline.files.atomic import new_file
from pipeline.settings.params import checked, quotes_alone, read_values

_WIDTH = 110
_REPLACED = "prepare.quotes"  # as a whole: a key of another file would stay


def blocks(reading: Mapping[str, Any]) -> dict[str, Any]:
    """The blocks of params.yaml for a reading of a file. A file that trains no model needs only how to read it."""
    if reading["surfaces"] < FEWEST_SURFACES or "grid" not in reading:
        return {"prepare": {"quotes": reading["block"]}}
    prepare = {"source": "quotes", "grid": reading["grid"], "quotes": reading["block"]}
    return {"prepare": prepare, **({"train": reading["train"]} if reading["train"] else {})}


def text(reading: Mapping[str, Any]) -> str:
    """The blocks of a reading as YAML."""
    stream = io.StringIO()
    _yaml().dump(_formatted(blocks(reading)), stream)
    return stream.getvalue().rstrip()


def reads_alone(path: Path) -> bool:
    """Whether a params.yaml is missing, or says how to read a file and nothing else, as ``write`` makes it then."""
    return not path.exists() or quotes_alone(path) is not None


def write(path: Path, reading: Mapping[str, Any], *, force: bool) -> list[str]:
    """Write the blocks of a reading into a params.yaml; the keys that changed.

    Where there is none it gets ``prepare.quotes`` alone: other commands read the file by it, and nothing trains by it.

    Raises:
        InputError: the file cannot be read or written, its settings are wrong with the blocks, or it has another block
            ``prepare.quotes`` and ``force`` is False.
    """
    alone, yaml = reads_alone(path), _yaml()
    values = read_values(path) if path.exists() else {"prepare": {}}
    if not isinstance(values, dict) or not isinstance(values.get("prepare"), dict):
        raise InputError(f"{path} has no block prepare")
    content = yaml.load(path) if path.exists() else CommentedMap(prepare=CommentedMap())
    own, new = content["prepare"].get("quotes"), dict(reading["block"])
    if own is not None and dict(own) != new and not force:
        raise InputError(f"{path} has another prepare.quotes, of {own.get('path')}; --force replaces it")
    changed = _merge(content, _formatted({"prepare": {"quotes": new}} if alone else blocks(reading)))
    stream = io.StringIO()
    yaml.dump(content, stream)
    if not alone:
        checked(yaml_text.load(stream.getvalue()), path)
    with new_file(path) as target:
        target.write(stream.getvalue().encode())
    return changed


def _merge(own: CommentedMap, new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Replace keys by those of another mapping, block by block; the names of the keys that change."""
    changed = []
    for key, value in new.items():
        name = f"{prefix}{key}"
        if name != _REPLACED and isinstance(value, Mapping) and isinstance(own.get(key), CommentedMap):
            changed += _merge(own[key], value, f"{name}.")
        elif own.get(key) != value:
            own[key] = value
            changed.append(name)
    return changed


def _formatted(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any value of YAML
    """Plain values as ruamel writes them: lists and inner mappings on one line."""
    if isinstance(value, Mapping):
        found = CommentedMap((key, _formatted(inner, depth + 1)) for key, inner in value.items())
        if depth >= 3 or (depth == 2 and not any(isinstance(inner, Mapping | list) for inner in value.values())):
            found.fa.set_flow_style()
        return found
    if isinstance(value, list):
        items = CommentedSeq(_formatted(inner, depth + 1) for inner in value)
        items.fa.set_flow_style()
        return items
    return value


def _yaml() -> YAML:
    yaml = YAML()  # keeps comments
    yaml.width = _WIDTH
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), _null)
    return yaml


def _null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
    """Null as the word, which ruamel would leave out."""
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
    return node
