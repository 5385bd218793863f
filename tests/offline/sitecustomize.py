"""Loaded by every Python that a test starts with this folder on PYTHONPATH: only loopback can be reached.

An attempt to reach anything else is refused and noted in the file that VOLVAE_TEST_ATTEMPTS names. Where
VOLVAE_TEST_GRAPHS names a folder, graphs that were exported before are read from there (see tests/exports.py).
"""

import os
import socket
import sys
from typing import Any

_LOOPBACK = ("127.", "::1", "localhost")
_connect, _connect_ex, _resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _check(host: Any) -> None:
    if isinstance(host, str) and host and not host.startswith(_LOOPBACK) and host != "0.0.0.0":
        with open(os.environ["VOLVAE_TEST_ATTEMPTS"], "a") as file:
            file.write(f"{host}\n")
        raise OSError(101, f"the network is cut off: {host}")


def connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _check(address[0])
    _connect(self, address)


def connect_ex(self: socket.socket, address: Any) -> int:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _check(address[0])
    return _connect_ex(self, address)


def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    _check(host if isinstance(host, str) and host != socket.gethostname() else None)
    return _resolve(host, *arguments, **options)


socket.socket.connect = connect  # type: ignore[method-assign]
socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
socket.getaddrinfo = getaddrinfo


class KeptGraphs:
    """Replaces torch's exporter at the first look for the module that calls it."""

    @classmethod
    def find_spec(cls, name: str, *_: object) -> None:
        if name == "vae.graphs.export":
            sys.meta_path.remove(cls)
            from pathlib import Path

            import torch

            from tests.exports import quick

            torch.onnx.export = quick(torch.onnx.export, Path(os.environ["VOLVAE_TEST_GRAPHS"]))


if "VOLVAE_TEST_GRAPHS" in os.environ:
    sys.meta_path.insert(0, KeptGraphs)  # type: ignore[arg-type]
