"""Coverage without a look at other packages, of which it follows each call and line: that makes them twice as slow."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

OURS = tuple(f"{Path(__file__).parents[1] / package}/" for package in ("vae", "pipeline", "deploy", "tests"))

# Functions and methods of other packages that tests use much, and that call nothing which coverage measures.
FOREIGN = {
    "_pytest.assertion.rewrite": ("rewrite_asserts",),
    "dvc.repo": ("Repo.__init__", "Repo.init", "Repo.reproduce"),
    "hypothesis.internal.conjecture.data": ("ConjectureData.draw",),  # strategies are code of tests
    "mlflow.onnx": ("save_model",),
    "mlflow.tracking.client": ("MlflowClient.*",),
    "onnx_ir.passes": ("PassBase.__call__",),
    "onnxscript.optimizer": ("fold_constants",),
    "torch._dynamo.convert_frame": ("CatchErrorsWrapper.__call__",),  # torch.compile of one function
    "ruamel.yaml": ("YAML.load", "YAML.dump"),
}


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Let coverage look away, in this thread."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        _call()


def _call() -> None:
    """Nothing: coverage looks again from the next call on, and would miss lines of the caller before it."""


def leave_out_foreign_code() -> None:
    """Let coverage look away while other packages are imported, and while one of ``FOREIGN`` works."""
    if sys.gettrace() is None:
        return
    execute = SourceFileLoader.exec_module

    def load(self: SourceFileLoader, module: ModuleType) -> None:
        if self.path.startswith(OURS):
            execute(self, module)
        else:
            with untraced():
                execute(self, module)
        _leave_out(module)

    SourceFileLoader.exec_module = load  # type: ignore[method-assign]
    for name in FOREIGN.keys() & sys.modules.keys():
        _leave_out(sys.modules[name])


def _leave_out(module: ModuleType) -> None:
    """Wrap what ``FOREIGN`` names of a module; a star stands for all public methods of a class."""
    for path in FOREIGN.get(module.__name__, ()):
        *classes, name = path.split(".")
        owner = getattr(module, classes[0]) if classes else module
        for each in [name] if name != "*" else [method for method in vars(owner) if method[0] != "_"]:
            _wrap(owner, each)


def _wrap(owner: Any, name: str) -> None:
    """Wrap a plain or static function of a module or class."""
    found = vars(owner)[name]
    if isinstance(found, FunctionType):
        setattr(owner, name, untraced()(found))
    elif isinstance(found, staticmethod):
        setattr(owner, name, staticmethod(untraced()(found.__func__)))
