"""Files of shards: what is finished when a run is killed is not made again.

The files lie outside the folder that DVC knows, because DVC deletes the outputs of a stage before it runs. The name of
a file ends in the sha256 of its content, so that a damaged file is noticed and made again.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.files import formats
from pipeline.files.atomic import check_space
from pipeline.progress import track

CHECKPOINTS = Path(".checkpoints/prepare")


class Shard(NamedTuple):
    """Consecutive points of the design of one split.

    Attributes:
        split: the split that they belong to.
        number: counts the shards of a split, from 0.
        first: index of its first point in the design of the split.
        size: number of points.
    """

    split: str
    number: int
    first: int
    size: int


Run = Callable[[Sequence[Shard]], Iterator[tuple[Shard, bytes]]]


def finished(shards: Sequence[Shard], *, key: str, surface_bytes: int, run: Run) -> dict[Shard, Path]:
    """The file of each shard, in order.

    Args:
        shards: all of them.
        key: names what their content depends on; files of another key are removed.
        surface_bytes: of each surface in a file.
        run: makes the content of those that have no file yet.

    Raises:
        InputError: the disk has no space for those.
    """
    store = CHECKPOINTS / key[:16]
    _remove_others(store)
    found = _intact(store, shards)
    if found:
        print(f"prepare: resumed with {len(found)} of {len(shards)} shards from {store}", file=sys.stderr, flush=True)
    missing = [shard for shard in shards if shard not in found]
    surfaces = sum(shard.size for shard in missing)
    one_more = max((shard.size for shard in missing), default=0)  # is twice on the disk while it is joined
    check_space(store, surface_bytes * (surfaces + one_more), content=f"the {surfaces:,} surfaces of prepare.surfaces")
    made = _timed(run(missing))
    for shard, content, _ in track(made, total=len(shards), done=len(found), label="prepare", note=_note):
        found[shard] = store / f"{_stem(shard)}-{formats.sha256(content)}.safetensors"
        formats.write_bytes(found[shard], content)
    return {shard: found[shard] for shard in shards}


def remove() -> None:
    """Remove all files of shards: their data set is complete."""
    shutil.rmtree(CHECKPOINTS, ignore_errors=True)


class _Made(NamedTuple):
    shard: Shard
    content: bytes
    surfaces_per_second: float


def _timed(results: Iterator[tuple[Shard, bytes]]) -> Iterator[_Made]:
    """Results with the mean speed so far."""
    start, surfaces = time.monotonic(), 0
    for shard, content in results:
        surfaces += shard.size
        yield _Made(shard, content, surfaces / (time.monotonic() - start))


def _note(made: _Made) -> str:
    return f"{made.surfaces_per_second:,.0f} surfaces/s"


def _stem(shard: Shard) -> str:
    return f"{shard.split}-{shard.number:05}"


def _intact(store: Path, shards: Sequence[Shard]) -> dict[Shard, Path]:
    """The files of shards whose content is what their name says; any other one is removed."""
    by_stem = {_stem(shard): shard for shard in shards}
    found: dict[Shard, Path] = {}
    for path in store.glob("*-*.safetensors"):
        stem, _, digest = path.stem.rpartition("-")
        if stem in by_stem and formats.sha256_of(path) == digest:
            found[by_stem[stem]] = path
        else:
            path.unlink()
    return found


def _remove_others(store: Path) -> None:
    """Remove the shards of other keys: they would only fill the disk."""
    for other in CHECKPOINTS.glob("*"):
        if other != store:
            shutil.rmtree(other)
