"""The directive ``settings``: a table of the keys of a block of params.yaml, from the types that check it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tools.params_schema import resolved, schema

PARAMS = Path(__file__).parents[2] / "params.yaml"
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true`, `false`",
    "null": "`null`",
}


class Settings(SphinxDirective):
    """A table of the block that the argument names; ``:but:`` names blocks in it that another page describes."""

    required_arguments = 1
    option_spec: ClassVar = {"but": str.split}

    def run(self) -> list[nodes.Node]:
        """Its keys with what is allowed, the default and the meaning."""
        root = schema(PARAMS.read_text("utf-8"))
        block = self.arguments[0]
        part = root
        for key in block.split("."):
            part = _merged(part, root)["properties"][key]
        rows = [line for row in _rows(part, root, "", self.options.get("but", [])) for line in row]
        lines = ["| key | allowed | default | meaning |", "|---|---|---|---|", *rows]
        self.env.note_dependency(str(PARAMS))
        table = nodes.container(classes=["settings"])
        self.state.nested_parse(StringList(lines, block), self.content_offset, table)
        return [table]


def _rows(part: dict[str, Any], root: dict[str, Any], prefix: str, but: list[str]) -> Iterator[list[str]]:
    """A row for each key, and behind a block its own keys."""
    block = _merged(part, root)
    for key, value in block["properties"].items():
        name = f"{prefix}{key}"
        needed = key in block["required"]
        words = (
            f"`{name}`",
            allowed(value, root),
            "needed" if needed else default(value),
            value.get("description", ""),
        )
        yield [f"| {' | '.join(word.replace('|', chr(92) + '|') for word in words)} |"]
        if name not in but and _merged(value, root)["properties"]:
            yield from _rows(value, root, f"{name}.", but)


def _merged(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """All keys of a block, or of its alternatives, and those that each of these needs."""
    blocks = [found for found in resolved(part, root) if "properties" in found]
    properties: dict[str, Any] = {}
    for block in blocks:
        for key, value in block["properties"].items():
            # the same key as an optional and as a needed one: the needed one says more
            properties[key] = value if key in block.get("required", ()) else properties.get(key, value)
    required = [set(block.get("required", ())) for block in blocks]
    return {"properties": properties, "required": set.intersection(*required) if required else set()}


def allowed(part: dict[str, Any], root: dict[str, Any]) -> str:
    """The allowed values, in words."""
    return " or ".join(dict.fromkeys(_one(found, root) for found in resolved(part, root)))


def _one(part: dict[str, Any], root: dict[str, Any]) -> str:
    values = part.get("enum", [part["const"]] if "const" in part else None)
    if values is not None:
        return ", ".join(f"`{value}`" for value in values)
    if "properties" in part:
        return "a block"
    if part.get("type") == "object":
        inner = part.get("additionalProperties")
        return f"a mapping to {allowed(inner, root)}" if isinstance(inner, dict) else "a mapping"
    if part.get("type") == "array":
        return f"a list, each {allowed(part['items'], root)}"
    if part.get("type") == "null":
        return "`null`"
    word = {"date": "date"}.get(part.get("format", ""), _TYPES.get(part.get("type", ""), "any value"))
    bounds = [f"{words} {_number(part[key])}" for key, words in _BOUNDS.items() if key in part]
    return f"{word} {' and '.join(bounds)}".strip()


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"


def default(part: dict[str, Any]) -> str:
    """The default as YAML has it; nothing for a block, whose keys have their own."""
    if "default" not in part or isinstance(part["default"], dict):
        return ""
    value = part["default"]
    words = {True: "true", False: "false", None: "null"}
    return f"`{words[value] if value is None or isinstance(value, bool) else value}`"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
