"""Keys that an object in JSON has twice: decoders take the last value without a word, and a request has one meaning.

The text is split at its quotation marks, so that long arrays of numbers cost little.
"""

import json
import re

from deploy.server.errors import ProtocolError

_NO_BRACES = bytes(set(range(256)) - set(b"{}"))
_BEFORE_VALUE = re.compile(rb"\s*:")


def check(content: bytes) -> None:
    """Raise ProtocolError where what a decoder took for JSON is not UTF-8, or has a key twice in one object.

    Decoders do not look at the bytes of fields that they skip.
    """
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the request is not UTF-8, as JSON is: {error.reason} at byte {error.start}") from error
    key = repeated(content)
    if key is not None:
        raise ProtocolError(f"the request has {key[:100]!r} twice in one object; which of the two is meant?")


def repeated(content: bytes) -> str | None:
    """A key that one object of valid JSON holds twice; None where there is none.

    >>> repeated(b'{"iv": [0.2], "at": {"iv": 1}, "tenor": 1, "iv": [0.3]}'), repeated(b'[{"a": "a"}, {"a": 1}]')
    ('iv', None)
    """
    if b"\\" in content:  # the same text, with quotation marks around strings only
        content = content.replace(rb"\\", rb"\u005c").replace(rb"\"", rb"\u0022")
    pieces = content.split(b'"')
    objects: list[set[str]] = []
    for place in range(0, len(pieces), 2):  # between strings
        if place and _BEFORE_VALUE.match(pieces[place]):
            written = pieces[place - 1]
            key: str = json.loads(b'"%b"' % written) if b"\\" in written else written.decode()
            if key in objects[-1]:
                return key
            objects[-1].add(key)
        for brace in pieces[place].translate(None, _NO_BRACES):
            if brace == ord("{"):
                objects.append(set())
            else:
                objects.pop()
    return None
