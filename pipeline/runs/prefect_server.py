"""A Prefect server on this machine, for schedules where no other server is configured.

Every web page that is open in a browser on this machine can send requests to the server. So the server obeys only
clients that know its password, and its own pages.
"""

import base64
import contextlib
import http.client
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputError, StageError

_SECONDS = 180.0
_PAUSE_SECONDS = 0.2


class Login(NamedTuple):
    """A user and a password, which open a server.

    Attributes:
        password: ``user:password``.
        source: where a person finds them, for a message.
    """

    password: str
    source: str


def own_login(home: Path) -> Login:
    """The login of this user's servers, from the file of ``password_file``.

    Raises:
        InputError: the file cannot be read, or has no password; without one, every page could command the server.
    """
    try:
        path = password_file(home)
        password = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the password of the Prefect server, in {home}, cannot be read: {error}") from error
    user, _, secret = password.partition(":")
    if not user or not secret:
        raise InputError(f"{path} holds no user:password; delete it, and the next start makes a new one")
    return Login(password, f"the content of {path}")


def password_file(home: Path) -> Path:
    """The file with the password of this user's servers, ``user:password``; made where it is missing.

    It lies beside Prefect's store in the folder ``home``, and only the user may read it. It stays, so that a browser
    that logged in once need not do so after each start.
    """
    path = home / "volvae-password"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(f"volvae:{secrets.token_hex(24)}\n")
        with contextlib.suppress(FileExistsError):  # another process was first
            path.hardlink_to(fresh)
        fresh.unlink()
    return path


def protection(password: str, *origins: str) -> dict[str, str]:
    """Settings of a server that refuses clients without the password, and pages of other origins."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }


@contextlib.contextmanager
def running(port: int, log: Path, password: str) -> Iterator[str]:
    """The address of the API of a server on loopback: one that is there, or a new one that ends with the block.

    Its store is Prefect's own SQLite file, so that a schedule and its runs survive a restart. A setting of the server
    that the environment has is kept.

    Raises:
        StageError: the server does not start, or the one that is there has another password.
    """
    url = f"http://127.0.0.1:{port}/api"
    if _healthy(url):
        _check_password(url, password)
        yield url
        return
    settings = protection(password, f"http://127.0.0.1:{port}", f"http://localhost:{port}")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.runs.supervise", *command],
            stdin=subprocess.PIPE,  # its end, at our own in whatever way, ends the server
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PREFECT_SERVER_UI_API_URL": url, **settings, **os.environ},
        )
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.communicate()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while not _healthy(url):
        if process.poll() is not None or time.monotonic() > until:
            lines = log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "nothing")
            raise StageError(f"the Prefect server at {url} does not start; {log} ends with: {last.strip()}")
        time.sleep(_PAUSE_SECONDS)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5.0) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200 and answer.read() == b"true")
    except (OSError, http.client.HTTPException):  # the latter where no HTTP is spoken there
        return False


def _check_password(url: str, password: str) -> None:
    token = base64.b64encode(password.encode()).decode()
    request = urllib.request.Request(f"{url}/admin/version", headers={"Authorization": f"Basic {token}"})  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=5.0).close()  # noqa: S310  our own address
    except urllib.error.HTTPError as error:
        raise StageError(
            f"the Prefect server at {url} refuses this user's password ({error.code} {error.reason}); set "
            "PREFECT_API_AUTH_STRING to that of the server, or choose another --port"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise StageError(f"the Prefect server at {url} does not answer: {error}") from error
