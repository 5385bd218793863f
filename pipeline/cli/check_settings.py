"""The command check: params.yaml, the file that it names and the key that signs, without any work."""

from pathlib import Path

from pipeline.errors import InputError, shown
from pipeline.registry.signing import signing_key
from pipeline.settings.params import read_params
from pipeline.settings.prepare import ArrayPrepare, QuotesPrepare
from pipeline.settings.quotes import QuotesParams


def check(path: Path) -> str:
    """Check all settings, and say in one line what they read.

    Raises:
        InputError: settings are wrong, or do not read the file that they name; all faults are named. Or the key that
            VOLVAE_SIGNING_KEY names cannot sign here, which a run would say only after it has trained.
    """
    signing_key()
    prepare = read_params(path).prepare
    if isinstance(prepare, QuotesPrepare):
        return f"{shown(path)}: all settings are right; {_quotes(prepare.quotes, path.parent)}"
    if isinstance(prepare, ArrayPrepare):
        file = path.parent / prepare.array.path
        if not file.exists():
            raise InputError(f"{path}: prepare.array.path: {file} does not exist")
        return f"{shown(path)}: all settings are right; {shown(file)} exists"
    return f"{shown(path)}: all settings are right; {prepare.source} surfaces need no file"


def _quotes(params: QuotesParams, folder: Path) -> str:
    """Read the file as ``prepare`` does, and say in one line how many of its rows are usable."""
    from pipeline.sources import quotes

    table = quotes.read_table(params.model_copy(update={"path": str(folder / params.path)}))
    return f"{params.path}: {table.kept.sum():,} of {len(table):,} rows are usable"
