"""An S3 server that hears SeaweedFS's options in deploy/compose.yaml: -dir=FOLDER, -bucket=NAMES and -s3.port=PORT.

Objects are in memory. The folder has them as files from the end of one server to the start of the next.
"""

import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

OPTIONS = dict(word.removeprefix("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
FOLDER = Path(OPTIONS["dir"])
store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
requests: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)


def application(environment: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
    """The server, with the health route of the real one."""
    if environment["PATH_INFO"] == "/healthz":
        start("200 OK", [("Content-Length", "0")])
        return [b""]
    return requests(environment, start)


def read(bucket: str) -> None:
    """Fill a new bucket from its folder."""
    store.create_bucket(bucket, "us-east-1")
    for path in (FOLDER / bucket).rglob("*"):
        if path.is_file():
            store.put_object(bucket, path.relative_to(FOLDER / bucket).as_posix(), path.read_bytes())


def write(bucket: str) -> None:
    """Keep the objects of a bucket in its folder."""
    for key, found in store.buckets[bucket].keys.items():
        path = FOLDER / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.value)


buckets = OPTIONS["bucket"].split(",")
for name in buckets:
    read(name)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    run_simple("0.0.0.0", int(OPTIONS["s3.port"]), application, threaded=True)
finally:
    for name in buckets:
        write(name)
