"""Docstrings as they are meant: their stars, bars and underscores are of mathematics, not of reStructuredText."""

import re

from sphinx.application import Sphinx

_LITERAL = re.compile(r"(``.*?``|`.*?`)")
_NDARRAY = re.compile(r"[\w.~]*ndarray\[tuple\[[\w.~]*Any, \.\.\.\], [\w.~]*dtype\[([^\[\]]+)\]\]")
_NAME = re.compile(r"~?\b(?:numpy|typing|torch|collections\.abc|pathlib|datetime)\.(?=[A-Za-z])(?:_typing\.)?")
_MARK = re.compile(r"[*|]|(?<=\w)_(?!\w)")


def plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Escape the marks outside of literals and of examples, in place."""
    lines[:] = [line if line.lstrip().startswith(">>>") else escaped(line) for line in lines]
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"  # else napoleon reads what stands before a colon as a type


def escaped(line: str) -> str:
    """A line whose marks are characters."""
    parts = _LITERAL.split(line)
    parts[::2] = [_MARK.sub(r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def short(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Signature and result with arrays as ``NDArray[float64]``, as the source writes them."""
    return shortened(signature), shortened(returned)


def shortened(annotation: str | None) -> str | None:
    """An annotation without the shape of arrays, of which nothing is known, and without the modules of names."""
    return None if annotation is None else _NAME.sub("", _NDARRAY.sub(r"NDArray[\1]", annotation))


def is_left_out(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:  # noqa: FBT001
    """Whether a member says nothing: a field of a named tuple, which its class describes."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Before napoleon, which reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", plain, priority=100)
    app.connect("autodoc-process-signature", short)
    app.connect("autodoc-skip-member", is_left_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
