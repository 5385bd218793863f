"""make deps: write params.schema.json, by which editors complete and check params.yaml, from the types of the settings.

What a key means is the comment beside it in params.yaml.
"""

import json
import re
from pathlib import Path
from typing import Any

from pipeline.settings.params import PARAMS, Params

SCHEMA = Path("params.schema.json")
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(?:# (?P<comment>.*))?")


def schema(params: str) -> dict[str, Any]:
    """The JSON schema of params.yaml, whose keys are described by the comments in the text ``params``."""
    found: dict[str, Any] = Params.model_json_schema()
    for path, comment in comments(params).items():
        for parent in _blocks(found, path.split(".")[:-1], found):
            key = parent["properties"].get(path.rpartition(".")[2])
            if key is not None:
                key["description"] = comment
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | _without_titles(found)


def comments(params: str) -> dict[str, str]:
    """The comment beside each key, by the keys that lead to it: ``train.model.latents``."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in params.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        above = [*above[: len(match["indent"]) // 2], match["key"]]
        if match["comment"]:
            found[".".join(above)] = match["comment"].strip()
    return found


def resolved(part: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a part of a schema stands for: itself, what it refers to, or its alternatives."""
    if "$ref" in part:
        return resolved(root["$defs"][part["$ref"].rpartition("/")[2]], root)
    alternatives = part.get("oneOf", part.get("anyOf"))
    return [part] if alternatives is None else [found for each in alternatives for found in resolved(each, root)]


def _blocks(part: dict[str, Any], keys: list[str], root: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks that keys lead to; several, as ``prepare`` has one for each source."""
    blocks = [found for found in resolved(part, root) if "properties" in found]
    if not keys:
        return blocks
    inner = [block["properties"][keys[0]] for block in blocks if keys[0] in block["properties"]]
    return [found for each in inner for found in _blocks(each, keys[1:], root)]


def _without_titles(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same without pydantic's titles, which repeat the names of keys."""
    if isinstance(part, list):
        return [_without_titles(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {key: _without_titles(value) for key, value in part.items() if key != "title" or not isinstance(value, str)}


def text(params: Path = PARAMS) -> str:
    """The text of params.schema.json."""
    return json.dumps(schema(params.read_text("utf-8")), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), "utf-8")
