"""Commands on versions in the registry: promote, roll back, sign, fetch, compare, show lineage and history."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import json_option, one_line_errors
from pipeline.errors import InputError, shown

if TYPE_CHECKING:
    from pipeline.registry.registry import Registry


@contextlib.contextmanager
def opened_registry() -> Iterator["Registry"]:
    """The registry that params.yaml names."""
    from pipeline.registry import registry
    from pipeline.settings.params import read_params

    settings = read_params().register_
    with registry.opened(model=settings.model, experiment=settings.experiment) as models:
        yield models


_OF_CARDS = b"library_name: volvae"  # in the head of each model card


_reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")


@click.command(short_help="Make a version the champion.", epilog="Example: volvae promote 3")
@click.argument("version", default="challenger")
@click.option("--force", is_flag=True, help="Even if the gate refused it, or has not judged it.")
@_reason
@one_line_errors
def promote(version: str, *, force: bool, reason: str) -> None:
    """Make VERSION, a number or an alias, the champion; the challenger where none is given."""
    with opened_registry() as models:
        found = models.find(version)
        doubt = forced = ""
        if not found.judged:
            doubt = "was not judged by the gate; `dvc repro --single-item --force register` judges it,"
            forced = "although the gate has not judged it"
        elif found.refused is not None:
            doubt, forced = f"was refused: {found.refused};", f"although the gate refused it: {found.refused}"
        if doubt and not force:
            raise InputError(f"{models.model} version {found.number} {doubt} --force promotes it all the same")
        former = models.promote(found, reason="; ".join(part for part in (reason, forced) if part))
    after = f", after version {former.number}" if former else ""
    click.echo(f"{models.model} version {found.number} is champion{after}")


@click.command(epilog="Example: volvae rollback")
@_reason
@one_line_errors
def rollback(reason: str) -> None:
    """Make the champion's predecessor champion again."""
    with opened_registry() as models:
        left, former = models.roll_back(reason=reason)
    click.echo(f"{models.model} version {former.number} is champion again, after version {left.number}")


@click.command(
    short_help="Say which version was champion when, and who made it so.",
    epilog="Example: volvae history --at 2026-11-27T14:03",
)
@click.option("--at", "moment", metavar="TIME", help="The champion at this time, in UTC unless it has an offset.")
@json_option
@one_line_errors
def history(moment: str | None, *, as_json: bool) -> None:
    """List each promotion and roll-back; exit code 1 if an entry was changed, removed or put at another place."""
    from pipeline.registry.history import champion_at

    at = None if moment is None else _moment(moment)
    with opened_registry() as models:
        entries = models.history()
    if not entries:
        raise InputError(f"{models.model} has no history in {models.store}; the first promotion begins one")
    if at is not None:
        found = champion_at(entries, at)
        if found is None:
            raise InputError(f"the history begins at {entries[0].time}, after {at.isoformat()}")
        entries = (found,)
    if as_json:
        click.echo(json.dumps([entry._asdict() for entry in entries], indent=2))
        return
    for entry in entries:
        after = f" after version {entry.former}" if entry.former else ""
        by = " ".join(part for part in (entry.who and f"by {entry.who}", entry.reason and f"({entry.reason})") if part)
        click.echo(f"{entry.time}  version {entry.version} {entry.action}{after} {by}".rstrip())


def _moment(text: str) -> datetime:
    """A point in time.

    Raises:
        InputError: the text is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"--at is {text!r}; allowed: a time such as 2026-11-27T14:03, in UTC unless +02:00 follows"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@click.command(short_help="Sign the bundle of a version.", epilog="Example: volvae sign champion")
@click.argument("version", default="challenger")
@one_line_errors
def sign(version: str) -> None:
    """Sign bundle and provenance of VERSION, a number or an alias, by the private key that VOLVAE_SIGNING_KEY names.

    `register` signs new versions where the variable is set; this command signs older ones.
    """
    from pipeline.registry.signing import SIGNING_KEY, signing_key

    key = signing_key()
    if key is None:
        raise InputError(f"{SIGNING_KEY} is not set; allowed: the path of a private key's PEM file")
    with opened_registry() as models:
        found = models.find(version)
        models.sign(found, key)
    click.echo(f"{models.model} version {found.number} is signed")


@click.command(short_help="Verify the signatures of a version.", epilog="Example: volvae verify champion")
@click.argument("version", default="champion")
@one_line_errors
def verify(version: str) -> None:
    """Say whether the key that VOLVAE_VERIFY_KEY names signed bundle and provenance of VERSION, a number or an alias.

    It ends with exit code 1 where one of them was changed or is not signed. No command loads such a version.
    """
    from vae.bundle import VERIFY_KEY, verify_key

    if verify_key() is None:
        raise InputError(f"{VERIFY_KEY} is not set; allowed: the path of a public key's PEM file")
    with opened_registry() as models:
        found = models.find(version)
        models.load(found)
    click.echo(f"{models.model} version {found.number}: bundle and provenance are as they were signed")


@click.command(
    short_help="Write the bundle of a version to a folder.", epilog="Example: volvae fetch champion -o bundle"
)
@click.argument("version", default="champion")
@click.option("-o", "output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@one_line_errors
def fetch(version: str, output: Path) -> None:
    """Write the bundle of VERSION, a number or an alias, to a folder; the champion where none is given.

    The model card of the version goes beside the folder: FOLDER.md.
    """
    from deploy.server.model_card import beside

    folder = output.absolute()
    with opened_registry() as models:
        found = models.find(version)
        models.fetch(found, folder)
        card = models.card(found)
    click.echo(f"{models.model} version {found.number}: {shown(output)}")
    if card is not None:
        _write_card(card, beside(folder))


def _write_card(card: bytes, path: Path) -> None:
    """Write a model card in one step, but not over a file that is none."""
    from pipeline.files import formats

    if path.exists() and not (path.is_file() and _OF_CARDS in path.read_bytes()):
        click.echo(f"fetch: {shown(path)} is no model card of volvae and stays; the card has that name", err=True)
    else:
        formats.write_bytes(path, card)


@click.command(
    short_help="Say what made a version, and how to make it again.", epilog="Example: volvae lineage champion"
)
@click.argument("version")
@click.option("-o", "output", type=click.Path(path_type=Path), help="Write its files to this new folder as well.")
@click.option("--check", is_flag=True, help="Compare what dvc.lock of this folder records; exit code 1 if it differs.")
@json_option
@one_line_errors
def lineage(version: str, output: Path | None, *, check: bool, as_json: bool) -> None:
    """Say which code, data, settings and machine made VERSION, a number or an alias, and how to make it again."""
    from pipeline.registry import rebuild, registry

    folder = output and output.absolute()
    with opened_registry() as models:
        found = models.find(version)
        with models.files(found, registry.LINEAGE) as kept:
            record = rebuild.read(found, kept, model=models.model, store=models.store)
            if folder is not None:
                rebuild.write(kept, folder)
    if check:
        rebuild.check(record)
        click.echo(f"the outputs here are those of {record.model} version {record.version}")
    else:
        click.echo(json.dumps(record._asdict(), indent=2) if as_json else rebuild.text(record))


@click.command(
    short_help="Put two versions, or two bundles, side by side.", epilog="Example: volvae compare champion challenger"
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
@one_line_errors
def compare(first: str, second: str, *, as_json: bool) -> None:
    """Compare the figures of A and B, what made them, and say whether their samples are of one kind.

    A and B are numbers or aliases of versions, or folders of bundles; ./champion is a folder of that name. A figure of
    B counts as better or worse where the difference exceeds the margin in register.gate of params.yaml. Without a
    complete params.yaml none does.
    """
    from pipeline.registry import compare, compare_text, sides
    from pipeline.settings.params import read_if_all

    for name in filter(sides.hidden_folder, (first, second)):
        click.echo(f"compare: {name} is the version; the folder of that name is ./{name}", err=True)
    with contextlib.ExitStack() as stack:
        models = None if all(map(sides.is_folder, (first, second))) else stack.enter_context(opened_registry())
        a, b = (
            sides.of_folder(Path(name)) if models is None or sides.is_folder(name) else sides.of_version(models, name)
            for name in (first, second)
        )
    params = read_if_all()
    found = compare.compared(a, b, None if params is None else params.register_.gate)
    click.echo(json.dumps(compare.record(found), indent=2, allow_nan=False) if as_json else compare_text.text(found))
