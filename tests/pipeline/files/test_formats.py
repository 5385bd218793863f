"""The bytes of files."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from pipeline.files import formats


def test_the_same_arrays_and_text_have_the_same_bytes() -> None:
    """safetensors itself writes text of several names in an order that each process, and each call, draws anew."""
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    text = {name: f'"{name}" é' for name in "fedcba"}
    content = formats.array_bytes(arrays, text)
    assert {formats.array_bytes(arrays, dict(reversed(text.items()))) for _ in range(20)} == {content}
    assert len({safetensors.numpy.save(arrays, text) for _ in range(20)}) > 1, "the order needs no care any more"


def test_arrays_and_text_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    text = {"z": 'a "quoted" \\ é \n\x1f', "y": ""}
    formats.write_arrays(tmp_path / "some", arrays, text)
    found = formats.read_arrays(tmp_path / "some")
    assert found.metadata == text
    assert {name: array.tolist() for name, array in found.arrays.items()} == {n: a.tolist() for n, a in arrays.items()}
