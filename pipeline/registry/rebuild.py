"""The provenance of a registered version, and the commands that rebuild it."""

from pathlib import Path
from typing import NamedTuple

from pipeline.credentials import without_credentials
from pipeline.errors import InputError, StageError
from pipeline.files import formats
from pipeline.files.atomic import copy_folder
from pipeline.registry import dvc_lock, lineage
from pipeline.registry.registry import Version

# They name the store, the run and the time, so that they differ between rebuilds.
_REGISTRATION = {"results/register.json", "results/report.html", "results/model_card.md"}


class Provenance(NamedTuple):
    """How one version was made.

    Attributes:
        model, version, created, verdict, parent: the version; its parent was champion when the gate judged it.
        commit, remote, dirty: the code, and whether the working tree differed from the commit.
        device, seeds, packages, requirements_sha256: the machine and the environment.
        seconds: duration of each stage that ran on the machine that registered the version.
        inputs, outputs: DVC's hashes by path.
        rebuild: commands that make the version again.
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
    """Read the provenance from the tags of a version and the folder of its lineage.

    Raises:
        InputError: a file of the folder is missing.
    """
    stages, tags = dvc_lock.recorded(folder / dvc_lock.LOCK.name), version.tags
    outputs = dvc_lock.outputs(stages)
    runs = formats.read_json(folder / lineage.RUNS)
    for tag in ("git.commit", "git.remote", "git.dirty", "device", "lock.sha256"):
        if tag not in tags:
            raise InputError(f"{model} version {version.number} has no tag {tag}: it was not registered by volvae")

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
        inputs={path: digest for path, digest in dvc_lock.data_hashes(stages).items() if path not in outputs},
        outputs={path: digest for path, digest in outputs.items() if path not in _REGISTRATION},
        rebuild=_rebuild(version, model=model, store=store),
    )


def check(provenance: Provenance) -> None:
    """Compare the outputs in dvc.lock of the current folder with those of the version.

    Raises:
        InputError: there is no dvc.lock.
        StageError: an output differs.
    """
    here = dvc_lock.outputs(dvc_lock.recorded())
    different = [path for path, digest in provenance.outputs.items() if here.get(path) != digest]
    if different:
        raise StageError(
            f"not what {provenance.model} version {provenance.version} was made of: {', '.join(different)}"
        )


def write(folder: Path, output: Path) -> None:
    """Copy the files of a lineage to the new folder ``output``.

    Raises:
        InputError: it exists.
    """
    if output.exists():
        raise InputError(f"{output} exists; name a new folder")
    copy_folder(folder, output)


def text(provenance: Provenance) -> str:
    """The provenance as a table for people, with the commands below it."""
    p = provenance
    changed = ", with changes" if p.dirty else ""
    lines = [
        ("version", f"{p.model} {p.version}, {p.created}, {p.verdict}; champion before: {p.parent}"),
        ("code", f"commit {p.commit}{changed}; remote {p.remote}"),
        ("device", p.device),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in p.seeds.items())),
        ("packages", ", ".join(f"{name} {number}" for name, number in p.packages.items())),
        ("lock", f"requirements.lock sha256 {p.requirements_sha256}"),
        ("seconds", ", ".join(f"{stage} {seconds:g}" for stage, seconds in p.seconds.items()) or "unknown"),
        *(("input", f"{path} {digest}") for path, digest in p.inputs.items()),
        *(("output", f"{path} {digest}") for path, digest in p.outputs.items()),
    ]
    table = "\n".join(f"{name:12}{value}" for name, value in lines)
    commands = "\n".join(f"  {command}" for command in p.rebuild)
    return f"{table}\n\nTo make it again, in an environment of its requirements.lock:\n{commands}"


def _rebuild(version: Version, *, model: str, store: str) -> tuple[str, ...]:
    """Three commands: fetch the files of the lineage, clone the code, run the pipeline and check its outputs."""
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
