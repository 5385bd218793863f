"""How a command reads a file of quotes: by the settings of params.yaml, else by canonical names and its own options."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.settings.quotes import QuotesParams

PARAMS = Path("params.yaml")
NO_DATE = "1970-01-01"  # of quotes whose tenors need no date
# Columns that say the same thing in different units: an option that names one replaces the others.
ALTERNATIVES = (
    ("tenor_years", "days", "tenor", "expiry"),
    ("log_moneyness", "call_delta", "delta", "strike", "moneyness"),
    ("iv", "bid_iv", "ask_iv", "price", "bid", "ask"),
    ("date", "snapshot"),
)
_OWN_OPTIONS = {"path": "the file is an argument", "columns": "--columns NAME=COLUMN names columns, NAME= none"}
_HINT = (
    "; here --set KEY=VALUE sets a key of prepare.quotes, --columns KEY=COLUMN names one of its columns, and "
    "--columns KEY= leaves it out"
)


class ReadingOptions(NamedTuple):
    """The options of a command on how to read a file.

    Attributes:
        settings: a params.yaml, whose block ``prepare.quotes`` reads the file.
        columns: columns of the file by canonical name.
        values: other keys of ``prepare.quotes``.
        left_out: canonical names that no column of the file is, whatever its name or the settings say.
    """

    settings: Path | None
    columns: Mapping[str, str]
    values: Mapping[str, Any]
    left_out: Collection[str] = ()


def _columns(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Columns by canonical name, empty for one that is left out, from arguments of the form NAME=COLUMN,NAME=."""
    pairs = [part.strip().partition("=") for value in values for part in value.split(",")]
    for name, equals, column in pairs:
        if not (name and equals):
            raise click.BadParameter(f"{name}{equals}{column} must be NAME=COLUMN, such as iv=impl_vol, or NAME=")
    return {name.strip(): column.strip() for name, _equals, column in pairs}


def _settings(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Values of YAML by key, from arguments of the form KEY=VALUE."""
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        block = key.strip().partition(".")[0]
        if block in _OWN_OPTIONS:
            raise click.BadParameter(f"{key.strip()} is not set here: {_OWN_OPTIONS[block]}")
        if not (key and equals and text):
            raise click.BadParameter(f"{value!r} must be KEY=VALUE, such as strike_scale=1000")
        found[key.strip()] = _yaml(text)
    return found


def _yaml(text: str) -> Any:  # noqa: ANN401 - any value of YAML
    from pipeline import yaml_text

    if text.startswith("%"):  # a date_format, which YAML takes for a directive
        return text
    try:
        return yaml_text.load(text)
    except yaml_text.TextError as error:
        raise click.BadParameter(f"{text[:100]!r} is not a value of YAML: {error}") from error


_columns_option = click.option(
    "--columns",
    metavar="NAME=COLUMN,...",
    multiple=True,
    callback=_columns,
    help="Columns of the file by canonical name, such as iv=impl_vol,strike=K; forward= leaves one out; see "
    "docs/quotes.md.",
)
_vol_unit_option = click.option(
    "--vol-unit",
    type=click.Choice(["decimal", "percent", "bp"]),
    help="Unit of the vols; the same as --set vol_unit=...",
)
_set_option = click.option(
    "--set",
    "values",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_settings,
    help="Any other key of prepare.quotes, such as rate=0.03 or strike_scale=1000; may be repeated.",
)
_settings_option = click.option(
    "--settings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A params.yaml whose prepare.quotes reads the file. Without it complete, score, arbitrage and drift take "
    "./params.yaml where it names this file.",
)


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of a command that reads a file of quotes; it gets them as ``reading``."""

    @wraps(command)
    def run(
        *arguments: object,
        settings: Path | None,
        columns: Mapping[str, str],
        vol_unit: str | None,
        values: Mapping[str, Any],
        **named: object,
    ) -> None:
        unit = {} if vol_unit is None else {"vol_unit": vol_unit}
        given = {key: name for key, name in columns.items() if name}
        left_out = [key for key in columns if key not in given]
        reading = ReadingOptions(settings, given, {**values, **unit}, left_out)
        command(*arguments, **{**named, "reading": reading})

    for option in (_set_option, _vol_unit_option, _columns_option, _settings_option):
        run = option(run)
    return run


def settings_of(file: Path, given: ReadingOptions, *, date: Any = None) -> "QuotesParams":  # noqa: ANN401
    """The settings that read a file.

    They are those of ``prepare.quotes`` where ``given.settings`` names a params.yaml or the one here is of this file;
    else canonical names that the file has. Options replace them key by key.

    Args:
        file: of quotes.
        given: options.
        date: of the quotes, for a file without such a column; it is read as of ``NO_DATE`` where its tenors need no
            date.

    Raises:
        InputError: the file or the settings cannot be read, or do not say how to read the file.
    """
    from pipeline.settings.params import read_quotes

    base = _base(file, given.settings)
    values = _canonical(file) if base is None else base
    columns = {key: own for key, own in values.get("columns", {}).items() if key not in given.left_out}
    for name, column in given.columns.items():
        for group in ALTERNATIVES:
            if name in group:
                columns = {key: own for key, own in columns.items() if key not in group or key in given.columns}
        columns[name] = column
    values = {**values, **given.values, "path": str(file), "columns": {**columns, **dict.fromkeys(given.left_out)}}
    if date is not None and "date" in values:  # of all rows: an option replaces what the settings say
        values["date"] = date
    if "date" not in columns and "snapshot" not in columns and "date" not in values:
        needs_date = "expiry" in columns or "quoted_at" in columns
        values["date"] = date if needs_date or date is not None else NO_DATE
        if values["date"] is None:
            raise InputError(f"{file} has no column date: say the date of its quotes by --date")
    try:
        found = read_quotes(values)
    except InputError as error:
        raise InputError(f"{file}: {error}{'' if base or given.columns else _guess(file)}{_HINT}") from error
    check_left_out(found, given.left_out)
    return found


def check_left_out(settings: "QuotesParams", names: Collection[str]) -> None:
    """Raise InputError where the layout of the table makes a column that an option leaves out."""
    for name in names:
        if getattr(settings.columns, name) is not None:
            raise InputError(
                f"{settings.path}: --columns {name}= leaves nothing out: the layout of the table makes this column"
            )


def has_settings(file: Path, given: ReadingOptions) -> bool:
    """Whether options, or params.yaml here, say how to read a file of quotes."""
    return bool(given.columns or given.values or given.left_out) or _base(file, given.settings) is not None


def hinted(error: InputError, given: ReadingOptions) -> InputError:
    """An error of the reader, which names settings, with the options that set them on the command line."""
    if "prepare.quotes" not in str(error) or given.settings is not None:
        return error
    return InputError(*error.args[:-1], f"{error.args[-1]}{_HINT}")


def _guess(file: Path) -> str:
    """The step that names columns which have other names than the canonical ones."""
    return f"; `volvae inspect {file}` guesses its columns, and `volvae init {file}` writes them into params.yaml"


def _base(file: Path, settings: Path | None) -> dict[str, Any] | None:
    """The block ``prepare.quotes`` of the settings that are given, or of params.yaml here where it is of this file."""
    from pipeline.settings.params import is_of_volvae, quotes_alone, read_params, read_quotes

    if settings is None and not is_of_volvae(PARAMS):
        return None
    path = PARAMS if settings is None else settings
    alone = quotes_alone(path)
    block = read_params(path).prepare.quotes if alone is None else read_quotes(alone)
    if block is None and settings is not None:
        raise InputError(f"{path} has no prepare.quotes; `volvae init {file}` writes it")
    if block is None or (settings is None and not _same(path.parent / block.path, file)):
        return None
    return block.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def _same(path: Path, file: Path) -> bool:
    return path.exists() and file.exists() and path.samefile(file)


def _canonical(file: Path) -> dict[str, Any]:
    """Canonical names that the columns of a file have, in any case."""
    from pipeline.settings.quotes import QuoteColumns
    from pipeline.sources.columns import Columns

    names = {name.casefold(): name for name in Columns.read(file).names}
    found = {key: names[key] for key in QuoteColumns.model_fields if key in names}
    if not found:
        raise InputError(
            f"{file} has none of the canonical columns: `volvae inspect {file}` shows how to read it, --columns "
            f"NAME=COLUMN names its columns, which are {', '.join(names.values())}"
        )
    return {"columns": found}
