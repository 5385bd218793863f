"""The server as a whole: a process that listens and keeps the workers alive."""

import socket
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial

from deploy import collector
from deploy.server import logs, metrics
from deploy.server.children import temporary_folder
from deploy.server.open_files import within_limit
from deploy.server.served import fingerprint, load
from deploy.server.settings import Settings
from deploy.server.stop import stop_at_signals
from deploy.server.supervisor import Workers
from deploy.server.trial import Stopped, Trials
from deploy.server.worker import work
from vae.sessions import SessionOptions


def run(settings: Settings, *, wait: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; workers that die are replaced.

    Args:
        settings: of the server.
        wait: whether to wait for a model that can be served, if there is none yet.

    Raises:
        ValueError: the bundle cannot be served, the server cannot listen at the address, or a package is missing.
    """
    logs.configure()
    collector.check()
    settings = within_limit(settings)
    with stop_at_signals() as stop, temporary_folder("volvae-server-") as folder, metrics.shared(folder):
        tried = folder / "tried"
        try:  # before there are workers to fail
            (_wait_for_model if wait else _check_model)(settings, Trials(tried, stop=stop, alone=True))
        except Stopped:
            return
        with _with_grpc(settings) as settings, closing(_listen(settings)) as listener:
            _log_start(settings, listener)
            workers = Workers(partial(work, settings, listener, tried), settings.workers)
            try:
                workers.keep_alive(stop)
            finally:
                listener.close()  # the workers' own copies stay open while they drain
                workers.stop(seconds=settings.drain + settings.grace)


def _check_model(settings: Settings, trials: Trials) -> None:
    """Return if the model can be served.

    Raises:
        ValueError: there is none, it cannot be served, or the provider does not start.
        Stopped: the server is asked to end.
    """
    SessionOptions(settings.provider, settings.threads).check()
    found = fingerprint(settings.bundle)
    trials.check(found)
    if settings.provider not in ("auto", "cpu"):  # the trial is on the CPU; this one may lack its driver
        load(found, provider=settings.provider, threads=settings.threads)


def _wait_for_model(settings: Settings, trials: Trials) -> None:
    """Return once there is a model that can be served.

    Raises:
        Stopped: the server is asked to end.
    """
    problem = logs.Once()
    while not trials.stop.is_set():
        if settings.bundle.exists():  # while it does not, the link to the alias logs the reason
            try:
                _check_model(settings, trials)
            except ValueError as error:
                problem.warning("waits for a model that is fit to serve", str(error))
            else:
                return
        trials.stop.wait(settings.poll)
    raise Stopped


def _with_grpc(settings: Settings) -> AbstractContextManager[Settings]:
    """Settings whose port of gRPC is held, if there is one.

    Raises:
        ValueError: it cannot be listened at, or grpc is not installed.
    """
    if settings.grpc_port is None:
        return nullcontext(settings)
    try:
        from deploy.server import grpc_server  # noqa: PLC0415 - grpc is optional
    except ImportError as error:
        raise ValueError("--grpc-port needs `pip install 'volvae[grpc]'`") from error
    return grpc_server.reserved(settings)


def _log_start(settings: Settings, listener: socket.socket) -> None:
    if settings.open_to_others:
        logs.warning("ANYONE WHO REACHES THIS ADDRESS CAN USE IT: set VOLVAE_TOKEN", host=settings.host)
    host, port = listener.getsockname()[:2]
    grpc = {} if settings.grpc_port is None else {"grpc_port": settings.grpc_port}
    logs.info("listens", host=host, port=port, **grpc, workers=settings.workers)


def _listen(settings: Settings) -> socket.socket:
    """A socket whose connections wait until a worker accepts them."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.connections)
    except OSError as error:
        raise ValueError(f"{settings.host}:{settings.port} cannot be listened at: {error.strerror}") from error
