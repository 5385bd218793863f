"""torch's exporter, which takes most of the time of a bundle: without coverage, and once for equal modules.

Its graphs are kept in pytest's cache, for all workers and the next run; `pytest --cache-clear` removes them. They are
exported again after a change of ``vae.graphs`` or of what it imports, not of other code.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from torch import nn

from pipeline.files import formats, stage_code
from tests.shared import common_folder
from tests.untraced import untraced
from vae import graphs


@pytest.fixture(scope="session")
def kept_graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the graphs."""
    kept = getattr(request.config, "cache", None)  # None where the option -p no:cacheprovider is given
    folder = kept.mkdir("graphs") if kept else common_folder(tmp_path_factory) / "graphs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _export_is_quick(kept_graphs: Path) -> Iterator[None]:
    """Let every export of the run be ``quick``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", quick(torch.onnx.export, kept_graphs))
        yield


def quick(export: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """An exporter that keeps its graphs in a folder and reads those that are there."""

    def kept(module: nn.Module, inputs: tuple[torch.Tensor, ...], **named: Any) -> SimpleNamespace:
        path = folder / f"{key(module, inputs, named)}.onnx"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with untraced():
                    made = export(module, inputs, **named)
                formats.write_bytes(path, made.model_proto.SerializeToString())  # whole, also where it is killed
        return SimpleNamespace(model_proto=onnx.load(path))

    return kept


def key(module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> str:
    """Hash of all that a graph depends on: the code of the files, the module, the inputs and the options."""
    whole = hashlib.sha256(repr((versions_and_code(), named)).encode())
    whole.update(content(module) + content(inputs))
    return whole.hexdigest()


@cache
def versions_and_code() -> tuple[object, ...]:
    """Of the exporter, and of ``vae.graphs`` with all that it imports."""
    finder = stage_code._FirstParty(path=[str(stage_code._ROOT)])
    for file in Path(graphs.__path__[0]).glob("[!_]*.py"):
        finder.import_hook(f"{graphs.__name__}.{file.stem}")
    code = sorted(Path(vars(module)["__file__"]).read_bytes() for module in finder.modules.values())
    return *map(version, ("torch", "onnx", "onnxscript")), hashlib.sha256(b"".join(code)).hexdigest()


def content(value: Any) -> bytes:
    """The bytes of tensors and arrays, of what consists of parts, and of the text of others."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        return repr((array.dtype, array.shape)).encode() + array.tobytes()
    parts = parts_of(value)
    if parts is not None:
        contents = [content(part) for part in parts]
        return repr([len(part) for part in contents]).encode() + b"".join(contents)
    text = repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
    assert " at 0x" not in text, f"another process would not find a graph by {text}"
    return text.encode()


def parts_of(value: Any) -> Sequence[Any] | None:
    """The parts of a container, a module, a function or code; None for others."""
    match value:
        case list() | tuple():
            return value
        case dict():
            return [*value.items()]
        case nn.Module():
            return [(name, *code_and_attributes(part)) for name, part in value.named_modules()]
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
        case CodeType():
            return [value.co_code, value.co_names, value.co_consts]  # with the functions inside it
    return None


def code_and_attributes(part: nn.Module) -> tuple[str, Any, dict[str, Any]]:
    """The class of a part, its code, as a test may replace it, and all attributes, tensors among them."""
    attributes = {name: value for name, value in sorted(vars(part).items()) if name != "_modules"}
    return type(part).__qualname__, type(part).forward, attributes
