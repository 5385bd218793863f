"""Vectors of any kind from files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from pipeline.files import formats
from pipeline.files.dataset import SPLITS, Dataset
from tests.workspace import Workspace

VALUES = np.random.default_rng(0).uniform(size=(200, 15)).astype(np.float32)

HUGE = np.lib.format.magic(1, 0) + b"\x76\x00" + (str({"descr": "<f8", "fortran_order": False, "shape": (10**13, 5)})
                                                 .ljust(117) + "\n").encode() + bytes(100)  # fmt: skip


def write(path: Path, values: np.ndarray = VALUES) -> Path:
    if path.suffix == ".npy":
        np.save(path, values, allow_pickle=values.dtype == object)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file({"x": values}, path)
    else:
        pq.write_table(pa.table({f"x{i}": column for i, column in enumerate(values.T)}), path)
    return path


def read() -> list[np.ndarray]:
    return [Dataset(Path("data/surfaces")).arrays(split)["values"] for split in SPLITS]


@pytest.fixture
def chosen(workspace: Workspace) -> Callable[..., Workspace]:
    """The workspace with an array as the source and no other settings."""
    for key in ("heston", "surfaces", "grid", "quote_noise_bp", "vol_tolerance"):
        workspace.set(**{f"prepare__{key}": None})

    def choose(path: Path, **values: Any) -> Workspace:
        workspace.set(prepare__source="array", prepare__array={"path": str(path), **values})
        return workspace

    return choose


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_every_format_gives_the_same_splits(chosen: Callable[..., Workspace], suffix: str) -> None:
    assert chosen(write(Path(f"a{suffix}")), shuffle=False).run("prepare") == 0
    splits = read()
    assert [len(part) for part in splits] == [140, 30, 30]
    np.testing.assert_array_equal(np.concatenate(splits), VALUES)
    assert not Path("data/surfaces/grid.json").exists()
    figures = json.loads(Path("results/prepare.json").read_text())
    assert (figures["vectors"], figures["dimensions"], figures["test_vectors"]) == (200, 15, 30)
    assert figures["sha256"] == formats.sha256(Path(f"a{suffix}").read_bytes())


def test_shuffled_splits_follow_from_the_seed(chosen: Callable[..., Workspace]) -> None:
    made = []
    for seed in (7, 7, 8):
        chosen(write(Path("a.npy"))).set(prepare__seed=seed)
        assert chosen(Path("a.npy")).run("prepare") == 0
        made.append([Path(f"data/surfaces/{split}.safetensors").read_bytes() for split in SPLITS])
        together = np.concatenate(read())
        np.testing.assert_array_equal(together[np.lexsort(together.T)], VALUES[np.lexsort(VALUES.T)])
    assert made[0] == made[1] != made[2]


def test_one_of_several_tensors_or_some_columns(chosen: Callable[..., Workspace]) -> None:
    safetensors.numpy.save_file({"x": VALUES, "y": 2 * VALUES}, "a.safetensors")
    assert chosen(Path("a.safetensors"), key="y", shuffle=False).run("prepare") == 0
    np.testing.assert_array_equal(np.concatenate(read()), 2 * VALUES)
    assert chosen(write(Path("a.parquet")), columns=["x3", "x1"], shuffle=False).run("prepare") == 0
    np.testing.assert_array_equal(np.concatenate(read()), VALUES[:, [3, 1]])


@pytest.mark.parametrize("values", [VALUES.round(), VALUES.round().astype(np.uint8), VALUES > 0.5, VALUES])
def test_bernoulli_takes_values_from_0_to_1(chosen: Callable[..., Workspace], values: np.ndarray) -> None:
    assert chosen(write(Path("a.npy"), values), likelihood="bernoulli", shuffle=False).run("prepare") == 0
    np.testing.assert_array_equal(np.concatenate(read()), values.astype(np.float32))
    metadata = formats.read_arrays(Path("data/surfaces/train.safetensors")).metadata
    assert metadata == {"likelihood": "bernoulli"}


def holed(value: float) -> np.ndarray:
    values = VALUES.copy()
    values[3, 4] = value
    return values


@pytest.mark.parametrize(
    ("name", "content", "more", "message"),
    [
        ("a.npy", None, {}, r"a\.npy does not exist"),
        ("a.csv", b"1,2", {}, r"a\.csv must end in \.npy, \.safetensors, \.parquet"),
        ("a.npy", b"", {}, r"a\.npy is damaged or of another format"),
        ("a.npy", b"1,2\n3,4\n", {}, r"a\.npy is damaged or of another format"),
        ("a.safetensors", b"1,2\n3,4\n", {}, r"a\.safetensors is damaged or of another format"),
        ("a.parquet", b"1,2\n3,4\n", {}, r"a\.parquet is not a parquet file, or is damaged"),
        ("a.npy", np.array([[{}]], object), {}, r"a\.npy is damaged or of another format: .*Python objects"),
        ("a.npy", HUGE, {}, r"a\.npy is damaged or of another format"),
        ("a.safetensors", safetensors.numpy.save({}), {}, r"a\.safetensors holds no tensors"),
        ("a.npy", VALUES[0], {}, r"a\.npy holds an array of shape \[15\]; allowed: \[n, D\]"),
        ("a.npy", VALUES[:0], {}, r"a\.npy holds an array of shape \[0, 15\]; allowed: \[n, D\]"),
        ("a.npy", VALUES + 1j, {}, r"a\.npy holds complex64; allowed: floating-point numbers"),
        ("a.npy", np.array([["a", "b"]]), {}, r"a\.npy holds <U1; allowed: floating-point numbers"),
        ("a.npy", holed(np.nan), {}, r"1 of 3000 numbers are not finite, the first at row 4, column 5"),
        ("a.npy", holed(1.0).astype(float) * 1e300, {}, r"3000 of 3000 numbers are not finite"),
        ("a.npy", holed(1.5), {"likelihood": "bernoulli"}, r"holds 1\.5 at row 4, column 5; allowed with likelihood"),
        ("a.npy", holed(-0.1), {"likelihood": "bernoulli"}, r"holds -0\.1 at row 4, column 5"),
        ("a.safetensors", VALUES, {"key": "z"}, r"a\.safetensors has no tensor z; allowed: x"),
        ("a.parquet", VALUES, {"columns": ["z"]}, r"a\.parquet has no column z; its columns: x0, x1"),
        ("a.npy", VALUES, {"key": "x"}, r"prepare\.array\.key is for \.safetensors files, not for a\.npy"),
        ("a.npy", VALUES, {"columns": ["x"]}, r"prepare\.array\.columns is for \.parquet files, not for a\.npy"),
        ("a.npy", VALUES, {"likelihood": "poisson"}, r"prepare\.array\.likelihood: Input should be 'gaussian' or"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_line(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str],
    name: str, content: bytes | np.ndarray | None, more: dict[str, Any], message: str,
) -> None:  # fmt: skip
    if isinstance(content, np.ndarray):
        write(Path(name), content)
    elif content is not None:
        Path(name).write_bytes(content)
    assert chosen(Path(name), **more).run("prepare") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not Path("data/surfaces").exists()


def test_several_tensors_need_a_key(chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]) -> None:
    safetensors.numpy.save_file({"x": VALUES, "y": VALUES}, "a.safetensors")
    assert chosen(Path("a.safetensors")).run("prepare") == 2
    assert "several tensors, so prepare.array.key must name one; allowed: x, y" in capsys.readouterr().err


def test_bfloat16_is_read_and_narrower_types_are_refused(
    chosen: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    values = torch.from_numpy(VALUES).to(torch.bfloat16)
    safetensors.torch.save_file({"x": values}, "a.safetensors")
    assert chosen(Path("a.safetensors"), shuffle=False).run("prepare") == 0
    np.testing.assert_array_equal(np.concatenate(read()), values.float().numpy())
    safetensors.torch.save_file({"x": values.to(torch.float8_e4m3fn)}, "a.safetensors")
    capsys.readouterr()
    assert chosen(Path("a.safetensors")).run("prepare") == 2
    assert "a.safetensors holds F8_E4M3; allowed: floating-point numbers of 16 bits" in capsys.readouterr().err
