"""The graphs of a bundle as sessions of onnxruntime.

A session starts at the first call, starts anew in a forked process, and can write its outputs into existing arrays.
"""

import copy
import ctypes
import functools
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vae.bundle import BundleError

# onnxruntime reads this at import; without it, it sends telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
except ImportError as error:
    raise ImportError(
        "vae.runtime needs onnxruntime: pip install 'volvae[cpu]', or 'volvae[gpu]' with an NVIDIA GPU"
    ) from error

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]
Feeds = Mapping[str, NDArray[Any]]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_NO_LINES = 4  # above its errors, which it raises as exceptions, too
_graphs: "weakref.WeakSet[Graph]" = weakref.WeakSet()  # all of this process


def available_providers() -> list[str]:
    """Providers that this onnxruntime was built with; one of them may still fail to start."""
    return list(onnxruntime.get_available_providers())


@functools.cache
def _has_driver() -> bool:
    """Whether this machine has NVIDIA's driver, without which no library of CUDA is of use."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@functools.cache
def _load_cuda() -> None:
    """Load the libraries of CUDA that came as wheels, once: the provider looks for them among the system's only."""
    # It prints a line for each that is missing, and the session says it in one. Its own print alone is silenced, as
    # sys.stdout is that of all threads.
    vars(onnxruntime)["print"] = lambda *_, **__: None
    try:
        onnxruntime.preload_dlls()
    finally:
        vars(onnxruntime).pop("print", None)


class SessionOptions(NamedTuple):
    """Options of all sessions.

    Attributes:
        provider: ``auto`` uses CUDA where this onnxruntime has it and it starts.
        threads: threads of one call on the CPU; 0 for one per core.
        tf32: whether CUDA may round products to ten bits, which moves vols by 1e-3.
    """

    provider: Provider = "auto"
    threads: int = 0
    tf32: bool = False

    def check(self) -> None:
        """Raise ValueError for an unknown or missing provider, or a negative number of threads."""
        available = available_providers()
        if self.provider not in ("auto", *PROVIDERS):
            raise ValueError(f"provider is {self.provider!r}; allowed: auto, {', '.join(PROVIDERS)}")
        if self.provider != "auto" and PROVIDERS[self.provider] not in available:
            raise ValueError(f"provider {self.provider!r} is not in this onnxruntime, which has {', '.join(available)}")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; allowed: 0 for one a core, or more")

    def providers(self) -> list[Any]:
        """Providers in the order in which onnxruntime tries them."""
        cuda = (PROVIDERS["cuda"], {"use_tf32": str(int(self.tf32))})
        cpu = PROVIDERS["cpu"]
        wanted: dict[str, list[Any]] = {
            "cpu": [cpu],
            "cuda": [cuda, cpu],
            "tensorrt": [PROVIDERS["tensorrt"], cuda, cpu],
            "auto": [cuda, cpu] if PROVIDERS["cuda"] in available_providers() and _has_driver() else [cpu],
        }
        return wanted[self.provider]


class _Row(NamedTuple):
    """Arrays of one row, [1, ...], that a session reads and writes, and its call, to which they are bound."""

    read: NDArray[np.float32]
    written: NDArray[np.float32]
    run: Callable[[], object]


class Graph:
    """One ONNX file as a session that threads and forked processes may share.

    Attributes:
        name: name of the file.
        inputs: shape of a row of each input, by name; the first axis is free.
        outputs: shape of a row of each output, by name.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        options: SessionOptions,
        *,
        inputs: Mapping[str, tuple[int, ...]],
        outputs: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self._content, self._options = content, options
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None
        self._check: Callable[[], object] | None = None
        self._idle: list[_Row] = []  # of ``run_row``, one for each thread that has called it at the same time
        _graphs.add(self)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session of this process.

        Raises:
            BundleError: the content is not a graph, or its inputs or outputs are not the expected ones.
            ValueError: the requested provider does not start.
        """
        if self._session is None:
            with self._lock:
                self._session = self._session or self._load()
        return self._session

    def checked(self, check: Callable[[], object]) -> Self:
        """The same graph on the same session, which calls ``check`` before each run."""
        twin = copy.copy(self)
        vars(twin).update(_session=self.session, _check=check)
        return twin

    def forget(self) -> None:
        """Drop the session in a forked process, because its threads exist in the parent only.

        The inherited session is never freed: freeing it would wait for these threads.
        """
        for inherited in (self._session, self._idle):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        self._lock, self._session, self._idle = threading.Lock(), None, []

    @property
    def provider(self) -> str:
        """The onnxruntime provider that runs the graph."""
        return str(self.session.get_providers()[0])

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs as new arrays."""
        if self._check is not None:
            self._check()
        found: list[NDArray[Any]] = (self._session or self.session).run(outputs, feeds)
        return found

    def run_row(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output of a graph with one input and one output at one row, [1, ...], as a new array.

        As ``run``, but the session finds its arrays bound. To copy so few numbers takes less time than to bind them.
        """
        if self._check is not None:
            self._check()
        try:
            bound = self._idle.pop()
        except IndexError:
            bound = self._bound_row()
        read, written, run = bound
        read[...] = row
        run()
        found = written.copy()
        self._idle.append(bound)
        return found

    def run_into(self, feeds: Feeds, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Write the outputs into the given arrays, which must be contiguous and of the right shape and type."""
        if self._check is not None:
            self._check()
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.session.run_with_iobinding(binding)

    def _bound_row(self) -> _Row:
        ((source, size),), ((target, shape),) = self.inputs.items(), self.outputs.items()
        read, written, session = np.empty((1, *size), np.float32), np.empty((1, *shape), np.float32), self.session
        binding = session.io_binding()
        binding.bind_input(source, "cpu", 0, np.float32, read.shape, read.ctypes.data)
        binding.bind_output(target, "cpu", 0, np.float32, written.shape, written.ctypes.data)
        run = partial(session.run_with_iobinding, binding)
        if self.provider == PROVIDERS["cpu"]:
            return _Row(read, written, run)

        def bind_and_run() -> None:
            binding.bind_cpu_input(source, read)  # what a device reads is copied to it now, and not at the run
            run()

        return _Row(read, written, bind_and_run)

    def _load(self) -> onnxruntime.InferenceSession:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.log_severity_level = _NO_LINES
        # Idle threads that spin cost a shared machine more than they save in a small graph.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = self._options.providers()
        on_device = providers != [PROVIDERS["cpu"]]
        if on_device:
            _load_cuda()
        try:
            session = onnxruntime.InferenceSession(self._content, settings, providers=providers)
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            what = " ".join(str(error).split())
            raise BundleError(f"onnxruntime {onnxruntime.__version__} cannot load {self.name}: {what}") from error
        for kind, expected, found in (
            ("inputs", self.inputs, session.get_inputs()),
            ("outputs", self.outputs, session.get_outputs()),
        ):
            shapes = {value.name: tuple(value.shape[1:]) for value in found}
            if shapes != dict(expected):
                raise BundleError(f"{self.name} has the {kind} {shapes}, but this bundle's has {dict(expected)}")
        wanted, used = self._options.provider, session.get_providers()[0]
        if wanted != "auto" and used != PROVIDERS[wanted]:
            raise ValueError(
                f"provider {wanted!r} does not start; {used} would run instead: it needs NVIDIA's driver, and its "
                "libraries, which pip install 'volvae[gpu]' brings"
            )
        if on_device and used == PROVIDERS["cpu"]:
            warnings.warn(
                f"NVIDIA's driver is here, but {PROVIDERS['cuda']} does not start, so {used} runs {self.name}: are its "
                "libraries installed, as by pip install 'volvae[gpu]', and is memory left? provider='cpu' is for this",
                RuntimeWarning,
                stacklevel=2,
            )
        return session


def _forget_sessions() -> None:
    for graph in _graphs:
        graph.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_sessions)
