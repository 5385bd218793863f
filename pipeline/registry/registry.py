"""The registry of models: versions, the aliases that name them, promotion and roll-back.

Two aliases name versions: ``challenger`` is the newest, ``champion`` the one that applications should load. A tag of
the model keeps the line of its champions, so that one command goes back, down to the first.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import InputError, StageError, listed
from pipeline.files.atomic import new_folder
from pipeline.registry import attestation, champion_record, history, mlflow_store
from pipeline.registry.champion_record import ChampionRecord
from pipeline.registry.mlflow_store import CONTENT, RunRecord, Store
from pipeline.registry.signing import SigningKey
from vae import runtime
from vae.bundle import (
    GRAPHS,
    MANIFEST,
    SCENARIOS,
    SIGNATURE,
    FormatError,
    SignatureError,
    read_manifest,
    read_whole,
    verify_key,
)
from vae.runtime import BundleError, SurfaceModel, VectorModel
from vae.signature import FaultError

CHALLENGER, CHAMPION = "challenger", champion_record.ALIAS
BUNDLE, LINEAGE = "bundle", "lineage"  # folders of a run's artifacts
_CARD = "report/model_card.md"  # among them
_MANIFEST = "volvae.manifest_sha256"
_ROLLED_BACK = "volvae.rolled_back"
_VERDICT, _REASON = "gate.verdict", "gate.reason"
_LONGEST_DESCRIPTION = 5000  # letters that MLflow's database takes
_ACCEPTED, _REFUSED = "accepted", "refused"
T = TypeVar("T")


class Version(NamedTuple):
    """A version of the registered model.

    Attributes:
        number: counted by MLflow from 1.
        run_id: the run that made it.
        created: time of the registration.
        tags: lineage, verdict of the gate and history as champion.
    """

    number: str
    run_id: str
    created: datetime
    tags: Mapping[str, str]

    @property
    def refused(self) -> str | None:
        """The reason of a refusal by the gate; None where it did not refuse."""
        return self.tags.get(_REASON, "") if self.tags.get(_VERDICT) == _REFUSED else None

    @property
    def judged(self) -> bool:
        """Whether the gate has judged this version: not one that MLflow's page made, or whose stage was killed."""
        return _VERDICT in self.tags

    @property
    def rolled_back(self) -> bool:
        """Whether it was champion until a roll-back."""
        return _ROLLED_BACK in self.tags


class OtherFormatError(StageError):
    """A version whose bundle has a format that this version of volvae does not read."""


class Registry:
    """One registered model of one store.

    Attributes:
        store: address of the store, without credentials.
        model: name of the model.
        experiment: name of the experiment that its runs belong to.
    """

    def __init__(self, store: Store, *, model: str, experiment: str) -> None:
        self.store, self.model, self.experiment = store.address, model, experiment
        self._store, self._client = store, store.client
        self._champions = ChampionRecord(store, model)

    def register(self, record: RunRecord) -> Version:
        """Log a run and register its decoder as the challenger, unless a version with the same content exists."""
        wanted = f"name = '{self.model}' and tags.`{CONTENT}` = '{record.content}'"
        with self._store.alone():
            found = self._client.search_model_versions(wanted)
            version = _version(found[0]) if found else self._add(record)
            self._client.set_registered_model_alias(self.model, CHALLENGER, version.number)
        return version

    def find(self, name: str) -> Version:
        """The version of this number or alias.

        Raises:
            InputError: there is none.
        """
        found = self.get(name)
        if found is None:
            raise InputError(f"{self.model} has no version {name!r} in {self.store}; it has {self._known()}")
        return found

    def get(self, name: str) -> Version | None:
        """The version of this number or alias; None where there is none."""
        found = self._store.find_version(self.model, name)
        return None if found is None else _version(found)

    def judge(self, version: Version, *, accepted: bool, reason: str, tags: Mapping[str, str]) -> None:
        """Store the verdict of the gate with a version, and the figures behind it, in place of an earlier verdict."""
        new = {**tags, _REASON: reason, _VERDICT: _ACCEPTED if accepted else _REFUSED}
        for name, value in new.items():
            self._client.set_model_version_tag(self.model, version.number, name, value)
        for name in version.tags.keys() - new.keys():
            if name.startswith("gate."):  # of an earlier verdict, whose gate had this check
                self._client.delete_model_version_tag(self.model, version.number, name)

    def promote(self, version: Version, *, reason: str = "") -> Version | None:
        """Make a version champion and return the former one. The alias moves last, after the files are verified.

        Args:
            version: that becomes champion.
            reason: for the history.

        Raises:
            StageError: the files are not those that were registered.
        """
        self.load(version)
        with self._store.alone():
            return self._promote(version, reason)

    def _promote(self, version: Version, reason: str) -> Version | None:
        former = self.get(CHAMPION)
        known = self._champions.settled()
        if former is not None and former.number == version.number:
            return former
        line = () if former is None else self._champions.line(former.number)
        # Written before the alias moves: a reader drops the entries after the alias, which a kill in between leaves.
        self._champions.keep_line((*line, version.number))
        if self.find(version.number).rolled_back:
            self._client.delete_model_version_tag(self.model, version.number, _ROLLED_BACK)
        self._champions.move(known, history.PROMOTED, version.number, reason)
        return former

    def roll_back(self, *, reason: str = "") -> tuple[Version, Version]:
        """Make the champion's predecessor champion again; returns the former champion and the new one.

        Args:
            reason: for the history.

        Raises:
            InputError: there is no champion, or it has no predecessor.
            StageError: the predecessor's files are not those that were registered.
        """
        with self._store.alone():
            return self._roll_back(reason)

    def _roll_back(self, reason: str) -> tuple[Version, Version]:
        champion = self.find(CHAMPION)
        known = self._champions.settled()
        whole = self._champions.line(champion.number)
        line = whole[:-1]
        while line and (line[-1] == champion.number or self.get(line[-1]) is None):  # deleted since
            line = line[:-1]
        if not line:
            self._champions.keep_line(whole)  # as a roll-back that was killed would have left it
            raise InputError(
                f"{self.model} version {champion.number} is the first champion; there is none to go back to"
            )
        former = self.find(line[-1])
        self.load(former)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._client.set_model_version_tag(self.model, champion.number, _ROLLED_BACK, now)
        # Without entries of a killed promotion, which could name the predecessor once more.
        self._champions.keep_line(whole)
        self._champions.move(known, history.ROLLED_BACK, former.number, reason)
        self._champions.keep_line(line)
        return champion, former

    def history(self) -> tuple[history.Entry, ...]:
        """All changes of the champion, from the first.

        Raises:
            StageError: an entry was changed, removed, added or put at another place.
        """
        return self._champions.history()

    def attach(self, version: Version, path: Path, folder: str) -> None:
        """Put a file into a folder among the artifacts of a version's run, in place of an earlier one."""
        self._store.attach(version.run_id, path, folder)

    def sign(
        self, version: Version, key: SigningKey, bundle: Path | None = None, statement: bytes | None = None
    ) -> None:
        """Keep the signatures of a version's bundle and provenance with it, unless it has those by this key.

        Args:
            version: to sign.
            key: that signs.
            bundle: the bundle as it was made, which is signed; by default the one that the store has.
            statement: the provenance as it was made, likewise.

        Raises:
            StageError: the files are not those that were registered.
        """
        with self.files(version, BUNDLE) as stored, tempfile.TemporaryDirectory(prefix="volvae-") as folder:
            if not key.has_signed(stored):
                made = bundle or stored
                path = self._verified(made, version, lambda: key.sign(made, Path(folder)))
                self.attach(version, path, BUNDLE)
            self._sign_provenance(version, key, stored, statement, Path(folder))

    def _sign_provenance(self, version: Version, key: SigningKey, bundle: Path, made: bytes | None, into: Path) -> None:
        with self.files(version, LINEAGE) as kept, self._refusing_provenance(version, can_be_signed=False):
            files = _digests(bundle)
            with contextlib.suppress(FaultError):
                attestation.check_signed(kept, files, key.public)
                return
            statement = attestation.stated(kept) if made is None else made
            attestation.check_subjects(statement, files)
            texts = {attestation.PROVENANCE: statement, attestation.SIGNED_PROVENANCE: key.sealed(statement)}
            for name, text in texts.items():
                (into / name).write_bytes(text)
                self.attach(version, into / name, LINEAGE)

    def check_provenance(self, version: Version, bundle: Path) -> None:
        """Refuse a version whose provenance the key of ``VOLVAE_VERIFY_KEY`` did not sign; none where that is unset.

        Args:
            version: that the provenance belongs to.
            bundle: its bundle, which is verified.

        Raises:
            StageError: the provenance lacks a signature by the key, was changed, or is of other files.
        """
        key = verify_key()
        if key is not None:
            with self.files(version, LINEAGE) as kept:
                files = _digests(bundle)
                with self._refusing_provenance(version, can_be_signed=attestation.is_sound(kept, files)):
                    attestation.check_signed(kept, files, key)

    @contextlib.contextmanager
    def _refusing_provenance(self, version: Version, *, can_be_signed: bool) -> Iterator[None]:
        """Name the version whose provenance has a fault, and what mends it."""
        try:
            yield
        except FaultError as error:
            step = (
                f"look at `volvae lineage {version.number}`: if that is what was registered, "
                f"`volvae sign {version.number}` signs it"
                if can_be_signed
                else "`dvc repro --single-item --force register` in the folder that made the version states it anew, "
                "where VOLVAE_SIGNING_KEY is set"
            )
            raise StageError(
                f"the provenance of {self.model} version {version.number} is refused: it {error}; {step}"
            ) from error

    def describe(self, version: Version, text: str) -> None:
        """Set the description of a version, Markdown that MLflow shows, in place of an earlier one."""
        self._client.update_model_version(self.model, version.number, text[:_LONGEST_DESCRIPTION])

    @contextlib.contextmanager
    def files(self, version: Version, kind: str) -> Iterator[Path]:
        """The files of a version while the block runs: the folder ``BUNDLE`` or ``LINEAGE``, or a file of one.

        Raises:
            StageError: they are gone.
        """
        with tempfile.TemporaryDirectory(prefix="volvae-") as folder:
            yield self._download(version, kind, Path(folder), disk=Path(folder).parent)

    def figures(self, version: Version) -> dict[str, float]:
        """The figures that were kept with a version, by stage and name, such as ``evaluate/elbo_nats``."""
        return self._store.figures(version.run_id)

    def manifest(self, version: Version) -> dict[str, Any]:
        """The manifest of a version's bundle.

        Raises:
            StageError: it is gone, or not what was registered.
        """
        with self.files(version, f"{BUNDLE}/{MANIFEST}") as path:
            return self._verified(path.parent, version, lambda: read_manifest(path.parent))

    def card(self, version: Version) -> bytes | None:
        """The model card of a version; None where it cannot be read, as of versions before there were cards."""
        with contextlib.suppress(StageError), self.files(version, _CARD) as path:
            return path.read_bytes()
        return None

    def load(self, version: Version) -> SurfaceModel | VectorModel:
        """The model of a version.

        Raises:
            StageError: its files are gone, or not those that were registered.
        """
        with self.files(version, BUNDLE) as folder:
            model = self._verified(folder, version, lambda: runtime.load(folder, provider="cpu", threads=1))
            self.check_provenance(version, folder)
        return model

    def fetch(self, version: Version, folder: Path) -> None:
        """Replace ``folder`` by the bundle of a version, completely or not at all.

        Raises:
            InputError: the folder cannot be written, or holds other files.
            StageError: the files are gone, or not those that were registered.
        """
        if folder.exists() and (others := sorted(path.name for path in folder.iterdir() if not _is_of_bundle(path))):
            raise InputError(f"{folder} holds {listed(others)}, which would be deleted; name another folder")
        with new_folder(folder) as fresh:
            found = self._download(version, BUNDLE, fresh, disk=folder.parent)
            # which runs no graph: whoever serves the bundle tries it within limits
            self._verified(found, version, lambda: read_whole(found, GRAPHS, optional=(SCENARIOS,)))
            self.check_provenance(version, found)
            for file in found.iterdir():
                file.rename(fresh / file.name)
            found.rmdir()

    def _download(self, version: Version, kind: str, into: Path, *, disk: Path) -> Path:
        """Copy the files of a version into a folder; where they lie there.

        Raises:
            StageError: they are gone, or the disk is full, which the message calls ``disk``.
        """
        try:
            return self._store.download(version.run_id, kind, into)
        except mlflow_store.ERRORS as error:
            if mlflow_store.is_full(error):
                raise StageError(f"no space left on device for the files of a version, in {disk}") from error
            what = f"{kind} of {self.model} version {version.number}"
            raise StageError(f"the {what} cannot be read from {self.store}: {mlflow_store.reason(error)}") from error

    def _verified(self, folder: Path, version: Version, read: Callable[[], T]) -> T:
        """The result of ``read``, which checks files against their manifest; that must be the registered one."""
        what = f"{BUNDLE} of {self.model} version {version.number}"
        try:
            tag, content = manifest_tag(folder), read()
        except FormatError as error:
            raise OtherFormatError(f"the {what} is of another version of volvae: {error}") from error
        except SignatureError as error:
            raise StageError(f"the {what} is refused: {error.fault}") from error
        except (OSError, BundleError) as error:
            raise StageError(f"the {what} is damaged: {mlflow_store.reason(error)}") from error
        if _MANIFEST in version.tags and not tag.items() <= version.tags.items():
            raise StageError(f"the {what} is not what was registered: its {MANIFEST} has another checksum")
        return content

    def _known(self) -> str:
        """All versions in words."""
        found = self._client.search_model_versions(f"name = '{self.model}'")
        numbers = sorted(int(version.version) for version in found)
        return f"versions {', '.join(map(str, numbers))}" if numbers else "none; `dvc repro` registers one"

    def _add(self, record: RunRecord) -> Version:
        model = self._store.log(self.experiment, record)
        return _version(self._store.add_version(self.model, model, {**record.tags, CONTENT: record.content}))


@contextlib.contextmanager
def opened(*, model: str, experiment: str) -> Iterator[Registry]:
    """The registered model of this name in the store at MLFLOW_TRACKING_URI, or in that of the current folder.

    Raises:
        StageError: the store cannot be reached or refuses.
    """
    with mlflow_store.opened() as store:
        yield Registry(store, model=model, experiment=experiment)


def manifest_tag(folder: Path) -> dict[str, str]:
    """The tag that ties a version to the files of its bundle."""
    return {_MANIFEST: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()}


def _digests(bundle: Path) -> dict[str, str]:
    """The sha256 of the files of a bundle but its signature, by name; empty for a folder, which no bundle has."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in bundle.iterdir()
        if path.name != SIGNATURE
    }


def _is_of_bundle(path: Path) -> bool:
    """Whether a path of a folder is a file that bundles have, of this format or another."""
    return path.is_file() and (path.name in (MANIFEST, SIGNATURE) or path.suffix == ".onnx")


def _version(found: Any) -> Version:  # noqa: ANN401  MLflow's class has no types
    created = datetime.fromtimestamp(found.creation_timestamp / 1000.0, UTC)
    return Version(str(found.version), str(found.run_id), created, dict(found.tags))
