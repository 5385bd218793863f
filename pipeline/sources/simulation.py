"""One shard of simulated surfaces with quote noise, as a pure function of the settings and its place in the design."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import StageError
from pipeline.files import formats
from pipeline.files.dataset import SPLITS, SimulatedLaw
from pipeline.files.stage_code import code_sha256
from pipeline.settings.prepare import SimulatedPrepare
from pipeline.settings.types import Range
from pipeline.sources.shards import Shard
from vae.pricing.compiled import CompilerError
from vae.pricing.priced_surfaces import OK, PricedSurfaces
from vae.pricing.simulated_models import MODELS, SimulatedModel
from vae.surface.units import BASIS_POINTS

_NOISE, _PARAMETERS = 0, 1  # uses of the random numbers of a shard


def plan(params: SimulatedPrepare) -> list[Shard]:
    """All shards: the design of each split is cut into equal pieces."""
    sizes = {split: getattr(params.surfaces, split) for split in SPLITS}
    return [
        Shard(split, number, first, min(params.surfaces_per_shard, size - first))
        for split, size in sizes.items()
        for number, first in enumerate(range(0, size, params.surfaces_per_shard))
    ]


def simulate(params: SimulatedPrepare, key: str, shard: Shard) -> bytes:
    """The complete surfaces of a shard as a safetensors file; its metadata counts the rejected ones by reason.

    ``iv`` has noise, ``clean`` is exact, both float32 [surface, tenor, node]; ``parameters`` is float64
    [surface, parameter]. One thread does the work, so that sums are rounded in the same way on every machine.

    Args:
        params: settings.
        key: ``key_of`` of the process that starts the workers; a worker with other code or libraries has another key.
        shard: one of ``plan``.

    Raises:
        StageError: the worker's key differs, or there is no compiler although the settings want compiled code.
    """
    if key != key_of(params):
        raise StageError("a worker runs another version of volvae, numpy or torch; install the same everywhere")
    model = MODELS[params.source]
    parameters = design(params, shard)
    surfaces = _priced(model, parameters, params)
    vol, worst = surfaces.vol.cpu(), surfaces.flag.cpu().flatten(1).amax(1)
    complete = worst == OK
    noise = torch.from_numpy(_generator(params.seed, shard, _NOISE).standard_normal(vol.shape))
    quoted = vol + params.quote_noise_bp / BASIS_POINTS * noise
    tensors = {
        "iv": quoted[complete].float(),
        "clean": vol[complete].float(),
        "parameters": parameters[complete],
    }
    report = {
        "surfaces": int(complete.sum()),
        "rejected": {reason: int((worst == flag).sum()) for flag, reason in enumerate(model.flags) if flag},
        "ranges": _ranges(model.parameters, tensors) if complete.any() else {},
    }
    arrays = {name: values.numpy() for name, values in tensors.items()}
    return formats.array_bytes(arrays, {"report": json.dumps(report)})


def _priced(model: SimulatedModel, parameters: Tensor, params: SimulatedPrepare) -> PricedSurfaces:
    """The exact surfaces, by one thread, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with _one_thread():
            return model.surfaces(
                parameters.to(device),
                params.grid.build(),
                vol_tolerance=params.vol_tolerance,
                compiled=params.compiled,
            )
    except CompilerError as error:
        raise StageError(f"prepare.compiled: true needs a C++ compiler that torch can use: {error}") from error


def _ranges(names: Sequence[str], tensors: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Least and largest value of each parameter and of the vols."""
    columns = dict(zip(names, tensors["parameters"].T, strict=True)) | {"iv": tensors["iv"]}
    return {name: (values.min().item(), values.max().item()) for name, values in columns.items()}


def surface_bytes(params: SimulatedPrepare) -> int:
    """Bytes of a surface in a file: its vols with noise and without, and its parameters."""
    return 2 * 4 * math.prod(params.grid.build().shape) + 8 * len(MODELS[params.source].parameters)


def box(params: SimulatedPrepare) -> list[Range]:
    """The range of each parameter of the model, in the model's order."""
    return [params.range_of(name) for name in MODELS[params.source].parameters]


def design(params: SimulatedPrepare, shard: Shard) -> Tensor:
    """The parameters of the surfaces of a shard, float64 [size, parameter].

    Training surfaces fill the box evenly. Held-out surfaces are independent draws of it: points of the same Sobol
    sequence would keep a distance from the training surfaces and seem easier to tell from them than they are.
    """
    ranges = box(params)
    if shard.split == "train":
        return sobol_design(ranges, shard.first, shard.size, seed=params.seed)
    unit = _generator(params.seed, shard, _PARAMETERS).random((shard.size, len(ranges)))
    return _in_box(ranges, torch.from_numpy(unit))


def sobol_design(ranges: Sequence[Range], first: int, size: int, *, seed: int) -> Tensor:
    """Points ``first`` and following of a scrambled Sobol design in the box of ``ranges``, float64 [size, parameter].

    Reference: Owen (1998), "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14(4).
    """
    engine = torch.quasirandom.SobolEngine(len(ranges), scramble=True, seed=seed)
    _jump(engine, first)
    return _in_box(ranges, engine.draw(size, dtype=torch.float64))


def _jump(engine: torch.quasirandom.SobolEngine, points: int) -> None:
    """``engine.fast_forward`` of a new engine in the time of a few points instead of that of all.

    Point n of a Sobol sequence is the sum modulo 2 of its direction numbers at the 1s of the Gray code of n.

    Reference: Antonov, Saleev (1979), "An economic method of computing LP_tau-sequences", USSR Comput. Math. 19(1).
    """
    if points:
        gray = (points - 1) ^ ((points - 1) >> 1)  # the engine draws its first point apart from the others
        for bit in range(gray.bit_length()):
            if gray >> bit & 1:
                engine.quasi ^= engine.sobolstate[:, bit]
        engine.num_generated = points


def _in_box(ranges: Sequence[Range], unit: Tensor) -> Tensor:
    """Points of the box of ``ranges`` from points of the unit cube, both [point, parameter]."""
    low = torch.tensor([side.low for side in ranges], dtype=torch.float64)
    high = torch.tensor([side.high for side in ranges], dtype=torch.float64)
    return low + (high - low) * unit


def law(params: SimulatedPrepare) -> SimulatedLaw:
    """The law of held-out surfaces."""
    low, high = (tuple(getattr(side, end) for side in box(params)) for end in ("low", "high"))
    return SimulatedLaw(params.source, low, high, params.quote_noise_bp / BASIS_POINTS, params.vol_tolerance)


def key_of(params: SimulatedPrepare) -> str:
    """Hash of all that the content of shards depends on: settings, code and versions of the libraries."""
    settings = params.model_dump_json(exclude={*params.result_free, "quotes", "array"})
    parts = (settings, code_sha256("prepare"), torch.__version__, np.__version__)
    return formats.sha256("\n".join(parts).encode())


def _generator(seed: int, shard: Shard, use: int) -> np.random.Generator:
    """The generator of a shard's noise or parameters: counter-based, keyed by the seed and the split.

    It starts at the shard's first point, so that no two shards share numbers.

    Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    key = np.array([seed, SPLITS.index(shard.split)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, shard.first, use]))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
