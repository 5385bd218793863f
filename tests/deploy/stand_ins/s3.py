"""An S3 server in memory that hears SeaweedFS's options in deploy/compose.yaml: -bucket=NAMES and -s3.port=PORT."""

import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

OPTIONS = dict(word.removeprefix("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
requests: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)


def application(environment: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
    """The server, with the health route of the real one."""
    if environment["PATH_INFO"] == "/healthz":
        start("200 OK", [("Content-Length", "0")])
        return [b""]
    return requests(environment, start)


for name in OPTIONS["bucket"].split(","):
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(name, "us-east-1")
run_simple("0.0.0.0", int(OPTIONS["s3.port"]), application, threaded=True)
