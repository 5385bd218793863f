"""YAML as plain values, read with the parser that DVC uses.

That parser calls itself for each level of nesting. Text of 100,000 levels would end the process in native code, so that
the levels are counted first.
"""

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

_PLACE = re.compile(r' in "<(byte|unicode) string>", ')  # as the parser calls a text that it did not read itself
_DEEPEST = 50  # levels; params.yaml has 5


class TextError(Exception):
    """A text is not YAML, or nested too deeply: one line that says where and why."""


def load(text: str | bytes) -> Any:  # noqa: ANN401  any value
    """The value of a text.

    Raises:
        TextError: it has none.
    """
    try:
        if _depth(text) > _DEEPEST:
            raise TextError(f"it is nested more than {_DEEPEST} levels deep")
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:  # ValueError: of a date or a number
        raise TextError(_PLACE.sub(" in ", " ".join(str(error).split()))) from error


def _depth(text: str | bytes) -> int:
    """Number of levels of a text; of a deep one not much more than ``_DEEPEST``."""
    depth = deepest = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        deepest = max(deepest, depth)
        if deepest > _DEEPEST:
            break
    return deepest
