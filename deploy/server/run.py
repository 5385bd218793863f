"""The server as a whole: a process that listens and keeps the workers alive."""

import socket
import threading
from contextlib import closing
from functools import partial

from deploy.server import logs, metrics
from deploy.server.descriptors import within_limit
from deploy.server.reload import fingerprint, load
from deploy.server.settings import Settings
from deploy.server.supervisor import Workers, stop_event
from deploy.server.worker import work


def run(settings: Settings, *, wait: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; workers that die are replaced.

    Args:
        settings: of the server.
        wait: whether to wait for a model that can be served, if there is none yet.

    Raises:
        ValueError: the bundle cannot be served, or the server cannot listen at the address.
    """
    logs.configure()
    settings = within_limit(settings)
    with stop_event() as stop:
        if not wait:
            _check_model(settings)  # before there are workers to fail
        elif not _wait_for_model(settings, stop):
            return
        with closing(_listen(settings)) as listener, metrics.shared():
            _log_start(settings, listener)
            workers = Workers(partial(work, settings, listener), settings.workers)
            try:
                workers.keep_alive(stop)
            finally:
                listener.close()  # the workers' own copies stay open while they drain
                workers.stop(seconds=settings.drain + settings.grace)


def _check_model(settings: Settings) -> None:
    """Raise ValueError unless there is a model that can be served."""
    load(fingerprint(settings.bundle), provider=settings.provider, threads=settings.threads)


def _wait_for_model(settings: Settings, stop: threading.Event) -> bool:
    """Wait until there is a model that can be served; false if the event is set before."""
    problem = logs.Once()
    while not stop.is_set():
        if settings.bundle.exists():  # while it does not, the link to the alias logs the reason
            try:
                _check_model(settings)
            except ValueError as error:
                problem.warning("waits for a model that is fit to serve", str(error))
            else:
                return True
        stop.wait(settings.poll)
    return False


def _log_start(settings: Settings, listener: socket.socket) -> None:
    if settings.open_to_others:
        logs.warning("ANYONE WHO REACHES THIS ADDRESS CAN USE IT: set VOLVAE_TOKEN", host=settings.host)
    host, port = listener.getsockname()[:2]
    logs.info("listens", host=host, port=port, workers=settings.workers)


def _listen(settings: Settings) -> socket.socket:
    """A socket whose connections wait until a worker accepts them."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.connections)
    except OSError as error:
        raise ValueError(f"{settings.host}:{settings.port} cannot be listened at: {error.strerror}") from error
