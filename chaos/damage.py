"""Files of every kind that the project reads, damaged at random.

Whoever reads such a file does not notice, because what it needs is not touched, or refuses it in one clear line. It
never ends with another result.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from chaos import faults
from chaos.nth_call import PROJECT, Row, one_line
from chaos.spread import Violation, spread
from chaos.subjects import Strike, Subject, opened, written
from pipeline.errors import StageError
from pipeline.files import formats
from pipeline.registry import cached, dvc_lock
from pipeline.registry.registry import CHAMPION
from pipeline.settings.params import PARAMS
from vae import runtime
from vae.bundle import BundleError

Damage = Callable[[bytes, random.Random], bytes | None]


def _cut(content: bytes, drawn: random.Random) -> bytes:
    return content[: drawn.randrange(len(content))]


def _flip(content: bytes, drawn: random.Random) -> bytes:
    place = drawn.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << drawn.randrange(8)]) + content[place + 1 :]


def _zeros(content: bytes, drawn: random.Random) -> bytes:
    """A block that was never written, as after a power cut."""
    place = drawn.randrange(0, len(content), 512)
    return (content[:place] + bytes(512) + content[place + 512 :])[: len(content)]


def _random(content: bytes, drawn: random.Random) -> bytes:
    return drawn.randbytes(len(content))


def _longer(content: bytes, drawn: random.Random) -> bytes:
    return content + drawn.randbytes(drawn.randrange(1, 512))


def _gone(_: bytes, __: random.Random) -> None:
    return None


DAMAGES: Mapping[str, Damage] = {
    "cut": _cut, "one bit": _flip, "zeros": _zeros, "random": _random, "longer": _longer, "gone": _gone,
}  # fmt: skip


class Reader(NamedTuple):
    """Something that reads files.

    Attributes:
        name: in tables.
        template: folder from which each trial starts.
        work: reads.
        files: that are damaged, as patterns.
        state: what it makes, which must be as without damage.
    """

    name: str
    template: Path
    work: faults.Work
    files: tuple[str, ...]
    state: Callable[[Strike], object]


def readers(stages: Sequence[Subject], registry: Sequence[Subject]) -> list[Reader]:
    """All readers, from the templates of the subjects."""
    os.environ["DVC_STAGE"] = "chaos"  # so that stages compare what they read with dvc.lock, as under DVC
    cached._cache = lambda: Path(".dvc/cache")  # asking DVC takes a second
    (store,) = {subject.template for subject in registry}
    return [
        *(
            Reader(subject.name, _half_done(subject), subject.work, _OF_STAGES[subject.name], subject.state)
            for subject in stages
        ),
        Reader("fetch", store, _fetched, ("mlflow.db", "mlartifacts/**/bundle/*"), partial(written, ["anew"])),
        Reader("load", store, _loaded, ("bundles/b/*",), partial(written, [])),
    ]


def rows(found: Sequence[Reader], folder: Path, *, trials: int, seed: int, workers: int) -> Iterator[Row]:
    """One row a reader; the trials are shared among them."""
    for reader in found:
        count, expected = trials // len(found), _undamaged(reader, folder)
        violations = spread(partial(_check, reader, seed, expected), range(count), folder, workers=workers)
        yield Row(reader.name, "damaged file", count, count, violations)


_OF_STAGES = {
    "prepare": (str(PARAMS), ".checkpoints/prepare/**/*"),
    "train": (str(PARAMS), "dvc.lock", "data/surfaces/*", ".checkpoints/*.safetensors"),
    "export": ("dvc.lock", "data/surfaces/*", "artifacts/model/*"),
}
_KILLED = {"prepare": 60, "train": 30, "export": 30}  # at which call


def _half_done(subject: Subject) -> Path:
    """A folder with dvc.lock in which the stage was killed, so that it has a checkpoint."""
    folder = subject.template.parents[1] / f"half_done_{subject.name}" / subject.template.name
    if not folder.exists():
        shutil.copytree(subject.template, folder)
        with contextlib.chdir(folder):
            made = {path: dvc_lock.md5(Path(path)) for path in ("data/surfaces", "artifacts/model")}
            outs = [{"path": path, "md5": digest} for path, digest in made.items()]
            formats.write_json(dvc_lock.LOCK, {"schema": "2.0", "stages": {"made": {"outs": outs}}})
        (kill,) = (fault for fault in faults.FAULTS if fault.name == "SIGKILL")
        faults.run(subject.work, folder, kill, _KILLED[subject.name])
    return folder


def _undamaged(reader: Reader, folder: Path) -> object:
    _fresh(reader, folder)
    outcome = faults.run(reader.work, folder / PROJECT)
    if outcome.code:
        raise RuntimeError(f"{reader.name} fails without damage: {outcome.said}")
    return faults.run(reader.state, folder / PROJECT).result


def _check(reader: Reader, seed: int, expected: object, number: int, folder: Path) -> Iterator[Violation]:
    drawn = random.Random(f"{seed} {reader.name} {number}")  # noqa: S311 - no secret
    _fresh(reader, folder)
    project = folder / PROJECT
    files = sorted({path for pattern in reader.files for path in project.glob(pattern) if path.is_file()})
    path, name = drawn.choice(files), drawn.choice(list(DAMAGES))
    spoilt = DAMAGES[name](path.read_bytes(), drawn)
    if spoilt is None:
        path.unlink()
    else:
        path.write_bytes(spoilt)
    trial = f"{reader.name}:{name}:{number} {path.relative_to(project)}"
    outcome = faults.run(reader.work, project)
    if outcome.code:
        yield from one_line(trial, outcome)
        return
    state = faults.run(reader.state, project).result
    if state != expected and path.name != str(PARAMS):  # which may say something else now
        yield Violation("noticed, or without effect", trial, f"{state}")


def _fresh(reader: Reader, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(reader.template, folder / PROJECT)


def _fetched(strike: Strike) -> None:
    with strike, opened() as models:
        models.fetch(models.find(CHAMPION), Path("anew"))


def _loaded(strike: Strike) -> None:
    try:
        with strike:
            runtime.load(Path("bundles/b"), provider="cpu", threads=1)
    except BundleError as error:  # which commands print as it is
        raise StageError(str(error)) from error
