"""Content of the pages, packed as the browser takes it, as its bytes are what a reader waits for.

Reference: RFC 9110, sections 8.8.3 (ETag), 12.5.3 (Accept-Encoding) and 13.1.2 (If-None-Match).
"""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from deploy.server import errors

_KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
_SHIPPED = {"br": ".br", "gzip": ".gz"}  # endings of files that are packed in the package, the smallest first
# Both are needed: browsers take brotli by https and from their own machine alone, and clients may take neither.
_KEPT = 64  # packed contents


class Folder:
    """The files of a folder, and nothing else: a path that leads out of it is unknown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    async def get(self, request: Request) -> Response:
        """The file that the path names, read beside the event loop, as the largest is unpacked for some readers.

        Raises:
            HTTPException: there is none.
        """
        return await asyncio.to_thread(self.file, request.path_params["path"], request)

    def file(self, name: str, request: Request) -> Response:
        """A file of the folder by its name.

        Raises:
            HTTPException: there is none.
        """
        kind = _KINDS.get(Path(name).suffix, "text/plain")
        taken = encodings(request.headers.get("accept-encoding", ""))
        for encoding, ending in _SHIPPED.items():
            if name + ending in self._names and encoding in taken:
                return _response((self._folder / (name + ending)).read_bytes(), encoding, kind, request)
        if name + ".gz" in self._names:
            return _response(gzip.decompress((self._folder / (name + ".gz")).read_bytes()), "", kind, request)
        if name not in self._names:
            raise errors.unknown_page(request.url.path)
        return content((self._folder / name).read_bytes(), kind, request)


def content(
    value: bytes, kind: str, request: Request, headers: Mapping[str, str] | None = None, *, again: bool = True
) -> Response:
    """A response that carries a value, by gzip where taken; with ``again`` a reader may ask whether it changed."""
    packs = "gzip" in encodings(request.headers.get("accept-encoding", ""))
    body, encoding = (_gzipped(value), "gzip") if packs else (value, "")
    return _response(body, encoding, kind, request, headers, again=again)


def encodings(header: str) -> frozenset[str]:
    """Names in a header Accept-Encoding, without those of quality 0."""
    parts = [part.replace(" ", "").lower().split(";") for part in header.split(",")]
    return frozenset(name for name, *options in parts if not any(_is_zero(option) for option in options))


def _is_zero(option: str) -> bool:
    return option.startswith("q=") and not option[2:].strip("0.")


def _response(
    body: bytes,
    encoding: str,
    kind: str,
    request: Request,
    headers: Mapping[str, str] | None = None,
    *,
    again: bool = True,
) -> Response:
    own = {"vary": "accept-encoding", **(headers or {})}
    if encoding:
        own["content-encoding"] = encoding
    if again:
        own["etag"] = f'"{_digest(body)}"'
        if request.headers.get("if-none-match") == own["etag"]:
            return Response(status_code=304, headers=own)
    return Response(body, headers=own, media_type=kind)


@lru_cache(_KEPT)
def _gzipped(value: bytes) -> bytes:
    return gzip.compress(value, 9, mtime=0)


@lru_cache(_KEPT)
def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
