"""The file of the user that ``prepare`` reads, and a record of its content that DVC can watch.

``python -m pipeline.sources.own_file RECORD`` writes the record. dvc.yaml runs this before ``prepare`` each time, as it
cannot name a path that only params.yaml knows.
"""

import hashlib
import json
import sys
from pathlib import Path

from pipeline.errors import InputError, shown_message
from pipeline.files.atomic import new_file
from pipeline.settings.params import read_params
from pipeline.settings.prepare import ArrayPrepare, PrepareParams, QuotesPrepare

STAGE = "source"  # of dvc.yaml
RECORD = Path("data/source.json")


def own_file(settings: PrepareParams) -> Path | None:
    """The file that the source reads; None for a simulated model."""
    if isinstance(settings, QuotesPrepare):
        return Path(settings.quotes.path)
    return Path(settings.array.path) if isinstance(settings, ArrayPrepare) else None


def write_record(settings: PrepareParams, record: Path) -> None:
    """Write the path and the sha256 of the user's file as JSON; null for what there is not.

    Raises:
        InputError: the file cannot be read, or the record cannot be written.
    """
    path = own_file(settings)
    content = {"path": None if path is None else str(path), "sha256": None if path is None else _sha256(path)}
    with new_file(record) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def _sha256(path: Path) -> str | None:
    """The hash of a file; None where there is no such file, which ``prepare`` reports."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


if __name__ == "__main__":
    try:
        write_record(read_params().prepare, Path(sys.argv[1]))
    except InputError as error:
        print(f"{STAGE}: {shown_message(error)}", file=sys.stderr)
        sys.exit(2)
