"""Speed of decoding, sampling and completion in an application, beside the alternatives, on one core.

Figures that are compared are measured in turns within one run. The benchmark uses the bundle, the model and the test
surfaces that `make run` leaves.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import QuantLib as ql
import torch
from torch import Tensor, nn

from benchmarks.turns import in_turns
from pipeline.export import in_single_precision
from pipeline.files import trained_model
from pipeline.files.dataset import Dataset
from vae import bundle
from vae.graphs import export
from vae.model.autoencoder import Vae
from vae.pricing import heston_surfaces
from vae.runtime import SurfaceModel
from vae.surface.grid import Grid
from vae.surface.units import BASIS_POINTS

BUNDLE, MODEL, SURFACES = Path("artifacts/bundle"), Path("artifacts/model"), Path("data/surfaces")
_BATCHES = (1, 16, 64, 256, 1024, 4096, 65_536)
_FEWEST = 64  # surfaces of a batch whose share of the peak is measured
_BLOCK = 4096
_CACHED = 512  # surfaces that numpy decodes at a time: its intermediate results stay in the cache
_PRODUCTS = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (512, 768, 1024), (256, 128, 128))
# Of the 738 of a surface, with the number of surfaces completed and calibrated: from 400 QuantLib takes half a second.
_QUOTES = {20: 200, 100: 200, 400: 100}
_DESCENDED = 12  # of these surfaces that Adam fits
_ADAM_STEPS, _ADAM_RATE = 50_000, 1e-3
_DAYS = 365


def results() -> dict[str, float]:
    """All figures of serving."""
    model = SurfaceModel.load(BUNDLE, provider="cpu", threads=1)
    trained = trained_model.read_model(MODEL)
    figures = {**decoding(model, trained), **single(model), **sampling(model)}
    for quotes, surfaces in _QUOTES.items():
        figures |= completing(model, trained, quotes=quotes, surfaces=surfaces)
    return figures


def decoding(model: SurfaceModel, trained: Vae) -> dict[str, float]:
    """Decoded surfaces a second to new memory, as the alternatives do, the ratio to each, and the share of the peak.

    ``decode_share_of_gemm_peak`` writes into an array that exists.
    """
    eager = export.Decoder(in_single_precision(trained), model.grid.shape).eval()
    compiled = torch.compile(eager, dynamic=True)
    plain = NumpyDecoder(trained)
    found: dict[str, float] = {"gemm_peak_gflops": gemm_peak()}
    flops = decoder_flops(trained)
    with torch.no_grad():
        for batch in _BATCHES:
            z = torch.randn(batch, model.latents, generator=torch.Generator().manual_seed(batch))
            calls: dict[str, Callable[[], object]] = {
                "volvae": partial(model.decode, z.numpy()),
                "volvae_into": partial(model.decode, z.numpy(), out=np.empty((batch, *model.grid.shape), np.float32)),
                "torch_eager": partial(eager, z),
                "torch_compile": partial(compiled, z),
                "numpy": partial(plain, z.numpy()),
            }
            seconds = in_turns(calls, repeats=max(1, 2048 // batch), rounds=9)
            ours, reused = seconds.pop("volvae"), seconds.pop("volvae_into")
            found[f"decode_per_second_batch_{batch}"] = batch / ours
            found |= {f"decode_ratio_to_{name}_batch_{batch}": theirs / ours for name, theirs in seconds.items()}
            if batch >= _FEWEST:
                peak = flops * batch / 1e9 / found["gemm_peak_gflops"]
                found[f"decode_share_of_gemm_peak_batch_{batch}"] = peak / reused
                found[f"decode_to_new_memory_share_of_gemm_peak_batch_{batch}"] = peak / ours
    return found


def single(model: SurfaceModel) -> dict[str, float]:
    """Time to decode one surface by the runtime, and by the bare session with its buffers bound before."""
    session = _session((BUNDLE / bundle.DECODER).read_bytes())
    z = np.zeros((1, model.latents), np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("z", onnxruntime.OrtValue.ortvalue_from_numpy(z))
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type([1, *model.grid.shape], np.float32)
    binding.bind_ortvalue_output("iv", output)
    calls: dict[str, Callable[[], object]] = {
        "decode": partial(model.decode, z),
        "bare": partial(session.run_with_iobinding, binding),
    }
    seconds = in_turns(calls, repeats=1, rounds=20_000)
    return {
        "decode_one_us": 1e6 * seconds["decode"],
        "decode_one_share_of_bare_session": seconds["bare"] / seconds["decode"],
    }


def sampling(model: SurfaceModel) -> dict[str, float]:
    """Samples a second with their random numbers, and the ratio to the speed of the decoder."""
    count = 16 * _BLOCK
    z = np.random.default_rng(1).standard_normal((count, model.latents)).astype(np.float32)
    calls: dict[str, Callable[[], object]] = {
        "sample": partial(model.sample, count, seed=1),
        "decode": partial(model.decode, z),
    }
    seconds = in_turns(calls, repeats=1, rounds=9)
    return {
        "sample_per_second": count / seconds["sample"],
        "sample_share_of_decode": seconds["decode"] / seconds["sample"],
    }


def completing(model: SurfaceModel, trained: Vae, *, quotes: int, surfaces: int) -> dict[str, float]:
    """Completion of test surfaces from random quotes by one call, by QuantLib's Heston calibration and by Adam.

    Adam takes 50,000 steps. Errors are mean absolute differences from the clean surface at the points without quotes.
    """
    test = Dataset(SURFACES).arrays("test")
    quoted, clean = test["iv"].astype(float), test["clean"].astype(float)
    generator = np.random.default_rng(1)
    known = np.zeros((surfaces, quoted[0].size), bool)
    for row in known:
        row[generator.choice(row.size, quotes, replace=False)] = True
    known = known.reshape(-1, *model.grid.shape)
    k = np.broadcast_to(model.grid.log_moneyness, model.grid.shape)
    tenor = np.broadcast_to(model.grid.tenors[:, None], model.grid.shape)

    times, errors, calibration, their_errors = [], [], [], []
    for row in range(surfaces):
        own = known[row]
        quotes_of_row = {"tenor": tenor[own], "log_moneyness": k[own]}
        start = time.perf_counter()
        parameters = calibrated(quoted[row][own], tenor[own], k[own])
        calibration.append(time.perf_counter() - start)
        model.complete(quoted[row][own], **quotes_of_row)
        start = time.perf_counter()
        found = model.complete(quoted[row][own], **quotes_of_row)
        times.append(time.perf_counter() - start)
        errors.append(np.abs(found.iv - clean[row])[~own].mean())
        vols = heston_surfaces.surfaces(torch.tensor([parameters], dtype=torch.float64), model.grid).vol[0].numpy()
        their_errors.append(np.nanmean(np.abs(vols - clean[row])[~own]))
    few = slice(_DESCENDED)
    adam_seconds, adam_errors = adam(trained, quoted[few], clean[few], known[few], model.grid)
    figures = {
        "complete_ms_p50": 1e3 * median(times),
        "complete_ratio_to_quantlib": median(calibration) / median(times),
        "quantlib_calibration_ms_p50": 1e3 * median(calibration),
        "adam_50000_steps_seconds": adam_seconds,
        "complete_mae_bp": BASIS_POINTS * float(np.mean(errors)),
        "complete_median_of_surfaces_bp": BASIS_POINTS * median(errors),
        "complete_worst_surface_bp": BASIS_POINTS * max(errors),
        "quantlib_mae_bp": BASIS_POINTS * float(np.mean(their_errors)),
        "quantlib_median_of_surfaces_bp": BASIS_POINTS * median(their_errors),
        "quantlib_worst_surface_bp": BASIS_POINTS * max(their_errors),
        "complete_mae_bp_beside_adam": BASIS_POINTS * float(np.mean(errors[few])),
        "adam_50000_steps_mae_bp": BASIS_POINTS * adam_errors,
    }
    return {f"{name}_{quotes}_quotes": value for name, value in figures.items()}


def calibrated(vols: np.ndarray, tenor: np.ndarray, k: np.ndarray) -> list[float]:
    """v0, kappa, theta, vol of vol and rho, fitted to implied vols by QuantLib's Levenberg-Marquardt."""
    today = ql.Date(1, 7, 2020)
    ql.Settings.instance().evaluationDate = today
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    process = ql.HestonProcess(flat, flat, ql.QuoteHandle(ql.SimpleQuote(1.0)), 0.06, 2.0, 0.06, 0.5, -0.5)
    model = ql.HestonModel(process)
    engine = ql.AnalyticHestonEngine(model)
    helpers = []
    for vol, years, place in zip(vols.tolist(), tenor.tolist(), k.tolist(), strict=True):
        quote = ql.QuoteHandle(ql.SimpleQuote(vol))
        period = ql.Period(round(_DAYS * years), ql.Days)
        helper = ql.HestonModelHelper(
            period, ql.NullCalendar(), 1.0, math.exp(place), quote, flat, flat,
            ql.BlackCalibrationHelper.ImpliedVolError,
        )  # fmt: skip
        helper.setPricingEngine(engine)
        helpers.append(helper)
    method = ql.LevenbergMarquardt(1e-8, 1e-8, 1e-8)
    model.calibrate(helpers, method, ql.EndCriteria(500, 50, 1e-8, 1e-8, 1e-8))
    return [model.v0(), model.kappa(), model.theta(), model.sigma(), model.rho()]


def adam(trained: Vae, quoted: np.ndarray, clean: np.ndarray, known: np.ndarray, grid: Grid) -> tuple[float, float]:
    """Seconds of a surface, and the error, of latents that 50,000 steps of Adam from 0 fit to the squared quote errors.

    All surfaces are fitted in one batch, as their losses are independent. The time is that of a surface alone.
    """
    decoder = export.Decoder(in_single_precision(trained), grid.shape)
    target, mask = (torch.from_numpy(part).float() for part in (quoted, known))

    def descend(rows: slice, steps: int) -> Tensor:
        z = nn.Parameter(torch.zeros(len(target[rows]), trained.architecture.latents))
        optimiser = torch.optim.Adam([z], lr=_ADAM_RATE)
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            (mask[rows] * (decoder(z) - target[rows]).square()).sum().backward()
            optimiser.step()
        return z.detach()

    start = time.perf_counter()
    descend(slice(1), _ADAM_STEPS // 50)
    seconds = 50.0 * (time.perf_counter() - start)
    latents = descend(slice(None), _ADAM_STEPS)
    with torch.no_grad():
        found = decoder(latents).numpy()
    return seconds, float(np.abs(found - clean)[~known].mean())


class NumpyDecoder:
    """The decoder as an optimised numpy program, with products in place where that is possible."""

    def __init__(self, trained: Vae) -> None:
        single = in_single_precision(trained)
        layers = [layer for layer in single.decoder_network if isinstance(layer, nn.Linear)]
        self.layers = [(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()) for layer in layers]
        self.linear = single.decoder_linear.weight.detach().numpy().T.copy()
        self.basis = (single.basis * single.unit).numpy().T.copy()
        self.center = single.center.numpy()

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Vols [batch, D] at latents z [batch, latent]."""
        points = np.empty((len(z), len(self.center)), np.float32)
        for first in range(0, len(z), _CACHED):
            rows = slice(first, first + _CACHED)
            self._decode(z[rows], points[rows])
        return points

    def _decode(self, z: np.ndarray, points: np.ndarray) -> None:
        layer = z
        for weight, bias in self.layers[:-1]:
            layer = layer @ weight
            layer += bias
            layer /= 1.0 + np.exp(-layer)
        weight, bias = self.layers[-1]
        values = layer @ weight
        values += bias
        values += z @ self.linear
        np.matmul(values, self.basis, out=points)
        points += self.center


def gemm_peak() -> float:
    """The fastest single-precision product by torch, numpy or onnxruntime, in GFLOP/s on one core."""
    return max(_speed_of_product(product, sizes) for sizes in _PRODUCTS for product in products(*sizes).values())


def _speed_of_product(product: Callable[[], object], sizes: tuple[int, int, int]) -> float:
    operations = 2e-9 * math.prod(sizes)
    repeats = max(1, round(1.0 / operations))
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(repeats):
            product()
        best = max(best, operations * repeats / (time.perf_counter() - start))
    return best


def products(rows: int, inner: int, columns: int) -> dict[str, Callable[[], object]]:
    """The product of two matrices into a third one, by each library."""
    a, b = (np.random.default_rng(1).standard_normal(shape, np.float32) for shape in ((rows, inner), (inner, columns)))
    c = np.empty((rows, columns), np.float32)
    wholes = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "ac"]
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", wholes[:1], wholes[1:], [onnx.numpy_helper.from_array(b, "b")])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", export.OPSET)], ir_version=export.IR_VERSION
    )
    session = _session(model.SerializeToString())
    binding = session.io_binding()
    source, target = onnxruntime.OrtValue.ortvalue_from_numpy(a), onnxruntime.OrtValue.ortvalue_from_numpy(c)
    binding.bind_ortvalue_input("a", source)
    binding.bind_ortvalue_output("c", target)
    tensors = [torch.from_numpy(array) for array in (a, b)]
    return {
        "torch": partial(torch.mm, *tensors, out=torch.empty(rows, columns)),
        "numpy": partial(np.matmul, a, b, out=c),
        "onnxruntime": partial(session.run_with_iobinding, binding),
    }


def _session(content: bytes) -> onnxruntime.InferenceSession:
    """A session with the defaults of onnxruntime on one core."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def decoder_flops(trained: Vae) -> int:
    """Floating-point operations of the matrix products that decode one surface."""
    sizes = [layer.weight.numel() for layer in trained.decoder_network if isinstance(layer, nn.Linear)]
    return 2 * (sum(sizes) + trained.decoder_linear.weight.numel() + trained.basis.numel())
