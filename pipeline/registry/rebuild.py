"""What a registered version says of its making, and how to make it again."""

from pathlib import Path
from typing import NamedTuple

from pipeline.credentials import without_credentials
from pipeline.errors import InputError, StageError
from pipeline.files import formats
from pipeline.files.atomic import copy_folder
from pipeline.registry import lineage
from pipeline.registry.registry import Version

_OF_ITS_OWN = "results/register.json"  # says where a version was registered, which is never the same


class Provenance(NamedTuple):
    """Of one version.

    Attributes:
        model, version, created, verdict, parent: what it is; the parent was champion when it was made.
        commit, remote, dirty: the code, and whether it was changed.
        device, seeds, packages, requirements_sha256: what it was made with.
        seconds: of each stage, where it ran on the machine that registered it.
        inputs, outputs: DVC's hashes by path.
        rebuild: commands that make it again.
    """

    model: str
    version: str
    created: str
    verdict: str
    parent: str
    commit: str
    remote: str
    dirty: bool
    device: str
    seeds: dict[str, str]
    packages: dict[str, str]
    requirements_sha256: str
    seconds: dict[str, float]
    inputs: dict[str, str]
    outputs: dict[str, str]
    rebuild: tuple[str, ...]


def read(version: Version, folder: Path, *, model: str, store: str) -> Provenance:
    """From the tags of a version and the folder of its lineage.

    Raises:
        InputError: the folder is not whole.
    """
    stages, tags = lineage.recorded(folder / lineage.LOCK.name), version.tags
    outputs = lineage.outputs(stages)
    runs = formats.read_json(folder / lineage.RUNS)

    def tagged(prefix: str) -> dict[str, str]:
        return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}

    return Provenance(
        model=model,
        version=version.number,
        created=version.created.isoformat(timespec="seconds"),
        verdict=tags.get("gate.verdict", "none"),
        parent=tags.get("volvae.parent", "none"),
        commit=tags["git.commit"],
        remote=without_credentials(tags["git.remote"]),
        dirty=tags["git.dirty"] == "true",
        device=tags["device"],
        seeds=tagged("seed."),
        packages=tagged("version."),
        requirements_sha256=tags["lock.sha256"],
        seconds={stage: run["seconds"] for stage, run in runs.items()},
        inputs={path: digest for path, digest in lineage.data_hashes(stages).items() if path not in outputs},
        outputs={path: digest for path, digest in outputs.items() if path != _OF_ITS_OWN},
        rebuild=_rebuild(version, model=model, store=store),
    )


def check(told: Provenance) -> None:
    """Compare what dvc.lock of the current folder records with what was registered.

    Raises:
        InputError: there is no dvc.lock.
        StageError: an output differs.
    """
    here = lineage.outputs(lineage.recorded())
    different = [path for path, digest in told.outputs.items() if here.get(path) != digest]
    if different:
        raise StageError(f"not what {told.model} version {told.version} was made of: {', '.join(different)}")


def write(folder: Path, output: Path) -> None:
    """Put the files of a lineage in place of ``output``.

    Raises:
        InputError: it exists.
    """
    if output.exists():
        raise InputError(f"{output} exists; name a new folder")
    copy_folder(folder, output)


def text(told: Provenance) -> str:
    """For people."""
    changed = ", with changes" if told.dirty else ""
    lines = [
        ("version", f"{told.model} {told.version}, {told.created}, {told.verdict}; champion before: {told.parent}"),
        ("code", f"commit {told.commit}{changed}; remote {told.remote}"),
        ("device", told.device),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in told.seeds.items())),
        ("packages", ", ".join(f"{name} {number}" for name, number in told.packages.items())),
        ("lock", f"requirements.lock sha256 {told.requirements_sha256}"),
        ("seconds", ", ".join(f"{stage} {seconds:g}" for stage, seconds in told.seconds.items()) or "unknown"),
        *(("input", f"{path} {digest}") for path, digest in told.inputs.items()),
        *(("output", f"{path} {digest}") for path, digest in told.outputs.items()),
    ]
    table = "\n".join(f"{name:12}{value}" for name, value in lines)
    commands = "\n".join(f"  {command}" for command in told.rebuild)
    return f"{table}\n\nTo make it again, in an environment of its requirements.lock:\n{commands}"


def _rebuild(version: Version, *, model: str, store: str) -> tuple[str, ...]:
    """Three commands: the lineage's files, the code, and the pipeline with a check of what it made."""
    tags, folder = version.tags, f"{model.replace(' ', '-')}-{version.number}"
    source = Path.cwd() if tags["git.remote"] == "none" else without_credentials(tags["git.remote"])
    code = f"git clone {source} {folder} && git -C {folder} checkout --detach {tags['git.commit']}"
    if tags["git.dirty"] == "true":
        code += f" && git -C {folder} apply ../{folder}.lineage/{lineage.PATCH}"
    embedded = store.removeprefix("sqlite:///")
    where = "" if embedded == store else f"MLFLOW_TRACKING_URI=sqlite:///{Path(embedded).absolute()} "
    return (
        f"volvae lineage {version.number} -o {folder}.lineage",
        code,
        f"cd {folder} && dvc repro && {where}volvae lineage {version.number} --check",
    )
