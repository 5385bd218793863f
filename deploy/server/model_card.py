"""The model card of a bundle: the Markdown that `register`, or the link to an alias, left near its folder."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae.bundle import BundleError, read_file

NAME = "model_card.md"
_ARTIFACTS, _OF_PROJECT = "artifacts", Path("results") / NAME  # of a project: its bundle is artifacts/bundle
_MOST_BYTES = 2**20  # of a card, which has 6,000


def beside(folder: Path) -> Path:
    """Where the card of a fetched version lies: a signed bundle has no place for a file that was not signed."""
    return folder.with_name(f"{folder.name}.md")


def read(folder: Path, manifest: Mapping[str, Any]) -> bytes | None:
    """The card of a bundle; None where there is none.

    A card names the sha256 of the weights. One of other weights is of another model, as in a project that has exported
    and not yet registered.
    """
    of_project = folder.parent.name == _ARTIFACTS  # else the folder above may be one in which anybody writes
    for path in (beside(folder), *([folder.parent.parent / _OF_PROJECT] if of_project else [])):
        with contextlib.suppress(OSError, BundleError):
            content = read_file(path, _MOST_BYTES)
            if manifest["weights_sha256"].encode() in content:
                return content
    return None
