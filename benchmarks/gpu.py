"""Generation, training, decoding and sampling on a GPU, beside the CPU of the same machine.

`make bench-gpu` prints a table in Markdown: surfaces a second on each device, and their ratio. Where torch finds no
CUDA device, only the CPU is measured. Torch prices, trains and decodes; its arrays stay on the device, and each time
ends when the device has finished. Rows that begin with `onnx` are the bundle's graphs in onnxruntime, on each provider
that is there.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.heston import default_design
from benchmarks.machine import machine
from benchmarks.sharing import random_surfaces
from pipeline.settings.params import read_params
from pipeline.train import new_trainer
from vae import bundle
from vae.graphs import export
from vae.model.autoencoder import Vae
from vae.pricing import compiled, heston_surfaces
from vae.runtime import SurfaceModel
from vae.sessions import PROVIDERS, Provider, SessionOptions, available_providers
from vae.surface.grid import Grid
from vae.training.trainer import Trainer

BUNDLE = Path("artifacts/bundle")
_PROVIDERS_OF: dict[str, tuple[Provider, ...]] = {"cpu": ("cpu",), "cuda": ("cuda", "tensorrt")}
_PRICED = {"cpu": 2048, "cuda": 32_768}  # surfaces of one call
_TRAINED, _VALIDATED = 65_536, 1024
_BATCHES = (1, 256, 4096, 65_536)  # decoded
_TRAININGS = (("float32", 1024), ("float32", 8192), ("tf32", 8192), ("bfloat16", 8192))  # precision and batch
_ROUNDS = 7

Figures = dict[str, float]
Array = NDArray[np.float32]


@click.command(help=__doc__)
@click.option("--bundle", "folder", default=BUNDLE, show_default=True, type=click.Path(path_type=Path))
@click.option("--seconds", default=4.0, show_default=True, help="Of each training.")
def main(folder: Path, seconds: float) -> None:
    """Measure on each device, and print the table; figures appear as they are found, too."""
    found: dict[str, Figures] = {"cpu": {}, **({"cuda": {}} if torch.cuda.is_available() else {})}
    for device in found:
        for part in results(torch.device(device), folder, seconds=seconds):
            found[device] |= part
            print(*(f"{device}: {name} {value:,.0f}" for name, value in part.items()), sep="\n", file=sys.stderr)
    print("\n".join([f"On {machine()}{_card()}:", "", *table(found)]))


def results(device: torch.device, folder: Path, *, seconds: float, trained: int = _TRAINED) -> Iterator[Figures]:
    """Surfaces a second, by what is done; rows of a compiler or a bundle that is missing are absent.

    Args:
        device: of torch, and of onnxruntime's providers.
        folder: the bundle whose graphs are measured.
        seconds: of each training.
        trained: number of training surfaces.
    """
    design, grid = default_design(_PRICED[device.type])
    yield generation(design.to(device), grid)
    surfaces = random_surfaces(trained + _VALIDATED, directions=read_params().train.model.basis)
    yield decoding(_new_trainer(surfaces, device, batch=1).model.eval(), grid)
    for precision, batch in _TRAININGS:
        speed = training(surfaces, device, precision=precision, batch=batch, seconds=seconds)
        yield {f"trained, {precision}, batch {batch:,}": speed}
    if (folder / bundle.DECODER).exists():
        for provider in _PROVIDERS_OF[device.type]:
            if PROVIDERS[provider] in available_providers():
                yield graphs(folder, provider)


def generation(design: Tensor, grid: Grid) -> Figures:
    """Heston surfaces a second, eager and compiled."""
    device = design.device
    calls = {"priced, eager": partial(heston_surfaces.surfaces, design, grid)}
    try:
        calls["priced, compiled"] = partial(calls["priced, eager"], kernels=compiled.kernels(device))
    except compiled.CompilerError as error:
        print(f"without compiled kernels on {device}: {error}")
    return {name: len(design) / _median_seconds(call, device) for name, call in calls.items()}


def training(surfaces: Tensor, device: torch.device, *, precision: str, batch: int, seconds: float) -> float:
    """Surfaces [surface, D] that one training on the device steps through a second, once the scaffold is gone."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        fit = _new_trainer(surfaces, device, batch=batch, precision=precision, scaffold_latents=0)
        epochs = fit.epochs()
        next(epochs)  # records the steps on a GPU
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(epochs)  # ends with a figure of the epoch, which waits for the device
            count += 1
        return count * fit.surfaces / (time.perf_counter() - start)
    finally:
        torch.set_float32_matmul_precision(before)


def decoding(model: Vae, grid: Grid) -> Figures:
    """Surfaces a second that torch decodes, from latents on the device."""
    device = model.center.device
    decoder = export.Decoder(model, grid.shape).eval()
    found = {}
    with torch.no_grad():
        for batch in _BATCHES:
            z = torch.randn(batch, model.architecture.latents, generator=torch.Generator().manual_seed(batch)).to(
                device
            )
            found[f"decoded, batch {batch:,}"] = batch / _median_seconds(partial(decoder, z), device)
    return found


def graphs(folder: Path, provider: Provider) -> Figures:
    """Surfaces a second of the bundle's decoder and sampler in onnxruntime.

    The runtime's calls end with arrays of numpy; ``bound`` is the decoder with its arrays in memory of the device.
    """
    model = SurfaceModel.load(folder, provider=provider)
    options = SessionOptions(provider).providers()
    session = onnxruntime.InferenceSession((folder / bundle.DECODER).read_bytes(), providers=options)
    label = "onnx tensorrt" if provider == "tensorrt" else "onnx"  # beside the same row of the CPU
    found: Figures = {}
    for batch in _BATCHES:
        z = np.random.default_rng(batch).standard_normal((batch, model.latents)).astype(np.float32)
        calls: dict[str, Callable[[], object]] = {
            "decoded": partial(model.decode, z),
            "decoded, bound": _bound(session, "cpu" if provider == "cpu" else "cuda", z),
            "sampled": partial(model.sample, batch, seed=1),
        }
        found |= {
            f"{label}, {name}, batch {batch:,}": batch / _median_seconds(call, torch.device("cpu"))
            for name, call in calls.items()
        }
    return found


def _bound(session: onnxruntime.InferenceSession, device: str, z: Array) -> Callable[[], object]:
    """A run of a graph with one input and one output, both in memory of the device."""
    binding, (output,) = session.io_binding(), session.get_outputs()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(z, device, 0))
    shape = [len(z), *output.shape[1:]]
    written = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
    binding.bind_ortvalue_output(output.name, written)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def table(found: dict[str, Figures]) -> list[str]:
    """Rows in Markdown: surfaces a second of each device, and of the last over the first.

    >>> print(*table({"cpu": {"priced": 10.0}, "cuda": {"priced": 25.0}}), sep=chr(10))
    | surfaces a second | cpu | cuda | ratio |
    |---|---|---|---|
    | priced | 10 | 25 | 2.5 |
    """
    devices = list(found)
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    rows = [["surfaces a second", *devices, *(["ratio"] if len(devices) > 1 else [])]]
    for name in names:
        values = [figures.get(name) for figures in found.values()]
        row = [name, *("" if value is None else f"{value:,.0f}" for value in values)]
        if len(devices) > 1:
            first, last = values[0], values[-1]
            row.append(f"{last / first:,.1f}" if first and last else "")
        rows.append(row)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def _new_trainer(surfaces: Tensor, device: torch.device, **changed: object) -> Trainer:
    """A training of params.yaml's model, without a foreseeable end."""
    params = read_params().train.model_copy(update={"epochs": 100_000, **changed})
    return new_trainer(params, surfaces[:-_VALIDATED], surfaces[-_VALIDATED:], device=device)


def _median_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, to the end of what it started on the device, after two calls to warm up."""
    times = []
    for turn in range(_ROUNDS + 2):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= 2:
            times.append(time.perf_counter() - start)
    return median(times)


def _card() -> str:
    """The name of the GPU, in words to follow that of the machine."""
    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


if __name__ == "__main__":
    main()
