"""The graphs of a bundle in onnxruntime: made when first called, anew in a forked process, and into arrays in place."""

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from vae.bundle import BundleError

# onnxruntime reads this when it is imported, and reports home unless it is set.
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
_ERRORS_ONLY = 3
_graphs: "weakref.WeakSet[Graph]" = weakref.WeakSet()  # those of this process


def available_providers() -> list[str]:
    """What this onnxruntime was built for; whether it starts is another matter."""
    return list(onnxruntime.get_available_providers())


class Options(NamedTuple):
    """How graphs are run.

    Attributes:
        provider: ``auto`` takes CUDA where this onnxruntime has it and it starts.
        threads: of one call on the CPU; 0 for one a core.
        tf32: whether CUDA may round products to ten bits, which moves vols by 1e-3.
    """

    provider: Provider = "auto"
    threads: int = 0
    tf32: bool = False

    def check(self) -> None:
        """Raise ValueError for what is unknown, out of range or not in this onnxruntime."""
        available = available_providers()
        if self.provider not in ("auto", *PROVIDERS):
            raise ValueError(f"provider is {self.provider!r}; allowed: auto, {', '.join(PROVIDERS)}")
        if self.provider != "auto" and PROVIDERS[self.provider] not in available:
            raise ValueError(f"provider {self.provider!r} is not in this onnxruntime, which has {', '.join(available)}")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; allowed: 0 for one a core, or more")

    def providers(self) -> list[Any]:
        """What onnxruntime tries, in this order."""
        cuda = (PROVIDERS["cuda"], {"use_tf32": str(int(self.tf32))})
        cpu = PROVIDERS["cpu"]
        wanted: dict[str, list[Any]] = {
            "cpu": [cpu],
            "cuda": [cuda, cpu],
            "tensorrt": [PROVIDERS["tensorrt"], cuda, cpu],
            "auto": [cuda, cpu] if PROVIDERS["cuda"] in available_providers() else [cpu],
        }
        return wanted[self.provider]


class Graph:
    """One ONNX file, which may be called from any thread and from forked processes.

    Attributes:
        name: of the file.
        inputs: shape of each row of each input that must be given, by name; the first axis is free.
        outputs: shape of each row of each output, by name.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        options: Options,
        *,
        inputs: Mapping[str, tuple[int, ...]],
        outputs: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self._content, self._options = content, options
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None
        _graphs.add(self)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session of this process.

        Raises:
            BundleError: the content is no graph, or not the one that its name says.
            ValueError: the provider that was asked for does not start.
        """
        if self._session is None:
            with self._lock:
                self._session = self._session or self._load()
        return self._session

    def forget(self) -> None:
        """Start anew in a forked process: the threads of a session stay with its parent.

        What was inherited is kept for good, as to free it would wait for these threads.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._lock, self._session = threading.Lock(), None

    @property
    def provider(self) -> str:
        """The onnxruntime provider that really runs it."""
        return str(self.session.get_providers()[0])

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs by name, as new arrays."""
        found: list[NDArray[Any]] = (self._session or self.session).run(outputs, feeds)
        return found

    def run_into(self, feeds: Feeds, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Write outputs straight into arrays, which must be contiguous and of the right shape."""
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.session.run_with_iobinding(binding)

    def _load(self) -> onnxruntime.InferenceSession:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.log_severity_level = _ERRORS_ONLY
        # Idle threads that spin cost a host more than they save a small graph.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(self._content, settings, providers=self._options.providers())
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
            raise ValueError(f"provider {wanted!r} does not start; {used} would run instead: is its driver installed?")
        return session


def _forget_sessions() -> None:
    for graph in _graphs:
        graph.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_sessions)
