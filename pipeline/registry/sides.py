"""A version, or the folder of a bundle, as something to compare: its verdict, figures, data and settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.files import formats
from pipeline.registry import dvc_lock
from pipeline.registry.registry import CHALLENGER, CHAMPION, LINEAGE, Registry
from vae.bundle import read_manifest

_SURFACES = "data/surfaces"
_FIGURES = Path("results/evaluate.json")
_STAGE = "evaluate/"  # before the names of its figures in MLflow
_CODE = ("git.commit", "device")  # tags that say what made a version, as those that begin with
_PACKAGES = "version."


class Side(NamedTuple):
    """One of two that are compared.

    Attributes:
        name: of the version, or the folder.
        verdict: of the gate in words; empty for a folder.
        manifest: of the bundle.
        figures: of the stage evaluate; none where a folder has none.
        settings: that made it, as dotted keys of params.yaml.
        data: DVC's hash of the surfaces or vectors that it was trained and measured on; empty where it is not known.
        code: commit, machine and packages; none of a folder.
    """

    name: str
    verdict: str
    manifest: Mapping[str, Any]
    figures: Mapping[str, float]
    settings: Mapping[str, Any]
    data: str
    code: Mapping[str, str]

    @property
    def is_judged(self) -> bool:
        """Whether it is a version, of which there is a verdict, and no folder."""
        return bool(self.verdict)


def of_version(models: Registry, name: str) -> Side:
    """The side of a version, a number or an alias.

    Raises:
        InputError: there is none.
        StageError: its files are gone, or not those that were registered.
    """
    version = models.find(name)
    figures = {
        key.removeprefix(_STAGE): value for key, value in models.figures(version).items() if key.startswith(_STAGE)
    }
    with models.files(version, f"{LINEAGE}/{dvc_lock.LOCK.name}") as path:
        lock = dvc_lock.read(path)
    tags = version.tags
    verdict, reason = tags.get("gate.verdict", "not judged"), tags.get("gate.reason", "")
    return Side(
        name=f"{models.model} version {version.number}",
        verdict=f"{verdict}: {reason}" if reason else verdict,
        manifest=models.manifest(version),
        figures=figures,
        settings=lock.settings,
        data=_data(lock),
        code={key: text for key, text in tags.items() if key in _CODE or key.startswith(_PACKAGES)},
    )


def of_folder(folder: Path) -> Side:
    """The side of a bundle's folder, with what the project around it says of it.

    A bundle carries neither figures nor settings. They are those of the project whose dvc.lock records exactly this
    bundle; in another folder, such as one of `volvae fetch`, they are not known.

    Raises:
        BundleError: it is no bundle.
    """
    manifest = read_manifest(folder)
    known = Side(str(folder), "", manifest, {}, {}, "", {})
    project = next((parent for parent in folder.absolute().parents if (parent / dvc_lock.LOCK).exists()), None)
    if project is None:
        return known
    lock = dvc_lock.read(project / dvc_lock.LOCK)
    made = dvc_lock.outputs(lock.stages)
    if not all(_is(project, path, made) for path in (folder.absolute().relative_to(project), _FIGURES)):
        return known
    figures = formats.read_json(project / _FIGURES)
    return known._replace(figures=figures, settings=lock.settings, data=_data(lock))


def is_folder(name: str) -> bool:
    """Whether an argument is a folder and not a version.

    A version has no separator in its name; an alias of the gate and a number are versions, whatever folders there are.
    """
    return "/" in name or (Path(name).is_dir() and not _is_of_registry(name))


def hidden_folder(name: str) -> bool:
    """Whether an argument that is a version is the name of a folder too."""
    return Path(name).is_dir() and not is_folder(name)


def _is_of_registry(name: str) -> bool:
    return name in (CHAMPION, CHALLENGER) or name.isdecimal()


def _is(project: Path, path: Path, made: Mapping[str, str]) -> bool:
    """Whether a file or folder of a project is what its dvc.lock records."""
    return (project / path).exists() and made.get(path.as_posix()) == dvc_lock.md5(project / path)


def _data(lock: dvc_lock.Lock) -> str:
    return dvc_lock.outputs(lock.stages).get(_SURFACES, "")
