"""A key that one object has twice is found wherever it stands, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.server import json_keys, oip_protocol
from deploy.server.errors import ProtocolError
from deploy.server.requests import Sample, decoded
from pipeline.errors import InputError
from pipeline.files import formats

_keys = st.sampled_from(["a", "b", "\\", '"', ":", "{", "}", "é", 'a"', "\\u0061"]) | st.text(max_size=2)
_pairs = st.recursive(
    st.none() | st.integers() | _keys,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_keys, inner), max_size=3).map(tuple),
    max_leaves=12,
)  # a tuple is an object, whose keys may repeat


def written(value: Any, *, ascii_only: bool, colon: str) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(written(one, ascii_only=ascii_only, colon=colon) for one in value) + "]"
    if isinstance(value, tuple):
        keys = (json.dumps(key, ensure_ascii=ascii_only) for key, _ in value)
        values = (written(one, ascii_only=ascii_only, colon=colon) for _, one in value)
        return "{" + ",".join(f"{key}{colon}{one}" for key, one in zip(keys, values, strict=True)) + "}"
    return json.dumps(value, ensure_ascii=ascii_only)


@given(value=_pairs, ascii_only=st.booleans(), colon=st.sampled_from([":", " : ", "\n:"]))
@example(value=((("é", 1), ("é", 2))), ascii_only=True, colon=":")
def test_keys_are_repeated_where_python_finds_them(value: Any, *, ascii_only: bool, colon: str) -> None:
    text = written(value, ascii_only=ascii_only, colon=colon)
    several: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> None:
        several.update(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)

    json.loads(text, object_pairs_hook=note)
    found = json_keys.repeated(text.encode())
    assert found in several if several else found is None


def test_one_key_in_two_spellings_is_one() -> None:
    assert json_keys.repeated(rb'{"\u0061": 1, "a": 2}') == "a"


@pytest.mark.parametrize("body", [b'{"count": 2, "count": 3}', b'{"count": 2, "conditions": {"x": 1, "x": 2}}'])
def test_requests_with_a_key_twice_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"the request has '(count|x)' twice in one object; which of the two"):
        decoded(body, Sample)


def test_tensors_with_a_key_twice_are_refused() -> None:
    tensor = b'{"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [1], "data": [2]}'
    with pytest.raises(ProtocolError, match="the request has 'data' twice"):
        oip_protocol.read(b'{"inputs": [%b]}' % tensor)


@pytest.mark.parametrize("skipped", [b'"x\xff": 1', b'"x": "\xff"', b'"\xed\xa0\x80\\n": 1'])
def test_bytes_that_are_not_utf8_are_refused_in_fields_that_the_protocol_skips(skipped: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"the request is not UTF-8, as JSON is: invalid .* at byte \d+"):
        oip_protocol.read(b'{%b, "inputs": []}' % skipped)


def test_files_with_a_key_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"date": "2026-03-02", "mean": [1], "date": "2026-03-03"}')
    with pytest.raises(InputError, match=r"state\.json is damaged or of another format: it has 'date' twice"):
        formats.read_json(path)


def test_all_keys_of_a_file_are_hashed_once_to_find_the_one_that_is_repeated() -> None:
    hashed = 0

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal hashed
            hashed += 1
            return super().__hash__()

    keys = [Key(number) for number in range(100)]
    with pytest.raises(ValueError, match="it has '99' twice"):
        formats._of_pairs([(key, None) for key in [*keys, keys[-1]]])
    assert hashed <= 3 * len(keys)
