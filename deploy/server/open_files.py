"""The limit of open files, of which each connection takes one."""

import resource
from dataclasses import replace

from deploy.server import logs
from deploy.server.settings import Settings

OWN = 100  # open files of a worker beside those of its connections
SPARE = 50  # connections beyond the most that are served, which get an answer that says so


def within_limit(settings: Settings) -> Settings:
    """The settings with as many connections as the limit of open files allows, which is raised where it may be.

    The usual limit of a shell or a container is 1,024. HTTP and gRPC have as many connections each.
    """
    ports = 1 if settings.grpc_port is None else 2
    needed = ports * (settings.connections + SPARE) + OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    most = max(1, (limit - OWN) // ports - SPARE)
    if most < settings.connections:
        logs.warning(
            "fewer connections than asked for: the limit of open files is too low",
            connections=most,
            asked=settings.connections,
            limit=hard,
        )
    return replace(settings, connections=most)
