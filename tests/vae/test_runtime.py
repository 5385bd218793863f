import hashlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist
from types import FunctionType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy import stats

from pipeline.files import formats
from tests.bundles import GRID, data, linear_model, two_markets, write_checksum
from vae import sessions
from vae.model.autoencoder import Vae
from vae.model.completion import Quotes, complete_quotes
from vae.model.linear import principal_components
from vae.model.quote_weights import QuoteInterpolator
from vae.runtime import BundleError, SurfaceModel


@pytest.fixture(scope="module")
def untrained() -> Vae:
    """A model that is linear still."""
    return linear_model(sees_missing=True)


@pytest.fixture(scope="module")
def reading(market_bundle: Path) -> tuple[Vae, SurfaceModel]:
    """A linear model of two markets that reads missing points, as it is and from its bundle."""
    return linear_model(sees_missing=True), SurfaceModel.load(market_bundle, provider="cpu")


@pytest.fixture
def bundle(linear_bundle: Path) -> Path:
    """A bundle of it."""
    return linear_bundle


@pytest.fixture
def model(bundle: Path) -> SurfaceModel:
    return SurfaceModel.load(bundle, provider="cpu")


def test_samples_have_the_grid_and_follow_the_seed(model: SurfaceModel) -> None:
    surfaces = model.sample(10, seed=7)
    assert surfaces.shape == (10, 2, 4)
    assert surfaces.dtype == np.float32
    np.testing.assert_array_equal(surfaces, model.sample(10, seed=7))
    assert not np.array_equal(surfaces, model.sample(10, seed=8))
    np.testing.assert_array_equal(model.grid.log_moneyness, GRID.log_moneyness)


def test_a_row_does_not_depend_on_the_size_of_the_request(model: SurfaceModel) -> None:
    """Across the border of the blocks in which draws are made; SIMD tails move the last bit of a float."""
    large = model.sample(model.block + 100, seed=3)
    np.testing.assert_allclose(model.sample(5, seed=3), large[:5], atol=1e-6, rtol=0)
    blocks = list(model.sample_blocks(model.block + 100, seed=3))
    assert [len(block) for block in blocks] == [model.block, 100]
    np.testing.assert_array_equal(np.concatenate(blocks), large)


@pytest.mark.slow
def test_samples_have_the_conditions_that_they_are_asked_for(reading: tuple[Vae, SurfaceModel]) -> None:
    """Two conditions that are vols of the surface, one of them asked for; the other stays free."""
    vae, model = reading
    asked = float(vae.center[5] + 0.02)
    surfaces = model.sample(2000, seed=1, conditions={"atm_level": asked}).reshape(2000, 8)

    assert model.conditions == ("first", "atm_level")
    np.testing.assert_allclose(surfaces[:, 5], asked, atol=1e-3)
    assert surfaces[:, 0].std() > 5e-3
    first = model.sample(5, seed=1, conditions={"atm_level": asked}).reshape(5, 8)
    np.testing.assert_allclose(first, surfaces[:5], atol=1e-6)
    for conditions, message in (
        ({"vix": 0.2}, "'vix' is not a condition; allowed: first, atm_level"),
        ({"atm_level": math.nan}, "the condition atm_level is nan; it must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(1, seed=1, conditions=conditions)


def test_a_condition_that_the_law_does_not_know_is_refused(reading: tuple[Vae, SurfaceModel]) -> None:
    """A vol of a linear model is normal in each component, so that its range is known."""
    vae, model = reading
    with torch.no_grad():
        steps = (vae.expand(vae.decode(torch.eye(3, dtype=torch.float64))) - vae.center)[:, 5].numpy()
    levels = float(vae.center[5]) + np.array([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, -1.0, 0.0]]) @ steps
    deviations = np.linalg.norm(steps) * np.array([0.3, 0.2, 0.1])
    low, high = model.condition_ranges["atm_level"]
    assert low == pytest.approx(max(0.0, (levels - 5.0 * deviations).min()), abs=1e-3)  # the law has 3e-5 of noise
    assert high == pytest.approx((levels + 5.0 * deviations).max(), abs=1e-3)
    for asked in (low, high):
        model.sample(1, seed=1, conditions={"atm_level": asked})
    for asked, message in (
        (100.0 * float(vae.center[5]), f"; the model knows {low:.4g} to {high:.4g}; it looks like a percentage"),
        (2.5 * high, f"; the model knows {low:.4g} to {high:.4g}"),
        (-0.1, f"is -0.1; the model knows {low:.4g}"),
        (1e30, r"the condition atm_level is 1e\+30"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(1, seed=1, conditions={"atm_level": asked})


def test_a_bundle_that_is_older_than_ranges_takes_any_number(market_bundle: Path, tmp_path: Path) -> None:
    folder = copy(market_bundle, tmp_path)
    manifest = formats.read_json(folder / "manifest.json")
    del manifest["condition_ranges"]
    formats.write_json(folder / "manifest.json", manifest)
    older = SurfaceModel.load(folder, provider="cpu")
    assert older.conditions == ("first", "atm_level")
    assert older.sample(1, seed=1, conditions={"atm_level": 25.0}).shape == (1, 2, 4)
    manifest["condition_ranges"] = {"atm_level": [0.5, 0.1]}
    formats.write_json(folder / "manifest.json", manifest)
    with pytest.raises(BundleError, match="the range of the condition atm_level is"):
        SurfaceModel.load(folder, provider="cpu")


@pytest.mark.slow
def test_samples_and_completions_can_be_asked_for_a_market(reading: tuple[Vae, SurfaceModel]) -> None:
    """Samples by the components of the market, completions by the model in torch; an unknown name is refused."""
    vae, model = reading
    prior = two_markets(vae)
    assert model.markets == prior.markets
    assert model.market_is_condition

    first = {market: model.draw(2000, seed=1, market=market).latents[:, 0] for market in (None, *model.markets)}
    assert first["AUDUSD"].max() < 0.0 < first["EUR/USD"].min()
    assert (first[None] < 0.0).mean() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 2000))  # its share

    k, iv = np.array([-0.1, 0.1]), np.array([0.22, 0.21])
    numbers = [torch.from_numpy(column) for column in (k, np.array([0.1, 0.5]), iv, np.ones(2))]
    for market in (None, *model.markets):
        found = model.complete(iv, tenor=[0.1, 0.5], log_moneyness=k, market=market)
        given = None if market is None else prior.in_market(market)
        with torch.no_grad():
            expected, _ = complete_quotes(vae, QuoteInterpolator(GRID), Quotes(*numbers), given)
        np.testing.assert_allclose(found.iv.ravel(), expected.mean[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(found.std.ravel(), expected.std[0].numpy(), rtol=1e-3)
        np.testing.assert_allclose(found.latents, expected.latents[0].numpy(), atol=1e-3)

    unknown = "'GBPUSD' is not a market of this model; allowed: AUDUSD, EUR/USD"
    with pytest.raises(ValueError, match=unknown):
        model.sample(1, seed=1, market="GBPUSD")
    with pytest.raises(ValueError, match=unknown):
        model.complete(iv, tenor=[0.1, 0.5], log_moneyness=k, market="GBPUSD")


def test_a_model_without_markets_says_so(model: SurfaceModel) -> None:
    assert model.markets == ()
    with pytest.raises(ValueError, match="this model has no condition market, so it cannot be asked for 'AUDUSD'"):
        model.sample(1, seed=1, market="AUDUSD")


def test_a_model_without_a_law_of_motion_says_which_setting_makes_one(model: SurfaceModel) -> None:
    for call in (lambda: model.state, lambda: model.scenarios(seed=1)):
        with pytest.raises(ValueError, match=r"no law of motion; .* where train\.dynamics is set"):
            call()


def test_latents_of_samples_are_standard_normal(model: SurfaceModel) -> None:
    """Mean and covariance within five standard errors, and lengths of chi's law."""
    z = model.draw(20_000, seed=1).latents
    assert np.abs(z.mean(0)).max() <= 5 / np.sqrt(len(z))
    assert np.abs(np.cov(z.T) - np.eye(3)).max() <= 5 * np.sqrt(2 / len(z))
    assert stats.kstest(np.linalg.norm(z, axis=1), stats.chi(3).cdf).pvalue > 1e-4


def test_offset_cuts_a_request_anywhere(model: SurfaceModel) -> None:
    whole = model.sample(50, seed=4)
    parts = [model.sample(count, seed=4, offset=offset) for offset, count in ((0, 20), (20, 1), (21, 29))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6, rtol=0)


def test_temperature_draws_samples_together(model: SurfaceModel) -> None:
    spread = [model.sample(2000, seed=4, temperature=t).std(0).mean() for t in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-3 * spread[2]
    assert spread[1] == pytest.approx(0.5 * spread[2], rel=0.02)


def test_a_block_is_all_that_a_stream_holds(model: SurfaceModel) -> None:
    """Ten million surfaces are a generator's next item away, not their memory."""
    stream = model.sample_blocks(10_000_000, seed=3)
    np.testing.assert_array_equal(next(stream), model.sample(model.block, seed=3))


def test_a_forked_process_samples_the_same(bundle: Path) -> None:
    """With sessions and their threads made before the fork."""
    model = SurfaceModel.load(bundle, provider="cpu", threads=2)
    expected = model.sample(9000, seed=5).tobytes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, hashlib.sha256(model.sample(9000, seed=5).tobytes()).digest())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 32) == hashlib.sha256(expected).digest()


def test_another_process_samples_the_same(bundle: Path, model: SurfaceModel) -> None:
    program = (
        "import hashlib; from vae.runtime import SurfaceModel; "
        f"print(hashlib.sha256(SurfaceModel.load({str(bundle)!r}, provider='cpu').sample(50, seed=9)).hexdigest())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == hashlib.sha256(model.sample(50, seed=9)).hexdigest()


@pytest.mark.slow
def test_missing_points_are_read_as_the_model_reads_them(reading: tuple[Vae, SurfaceModel]) -> None:
    """NaN in one row; its neighbour is complete and reads as if it were alone."""
    vae, model = reading
    iv = model.sample(2, seed=1)
    iv[0, 1, 2:] = np.nan
    found = model.encode(iv=iv)
    with torch.no_grad():
        for row in range(2):
            seen = vae.double().observe(torch.from_numpy(iv[row : row + 1]).double().flatten(1))
            expected = vae.encode(seen.values, seen.missing)
            np.testing.assert_allclose(found.mean[row], expected.mean[0].numpy(), atol=1e-4)
            np.testing.assert_allclose(found.std[row], expected.log_std[0].exp().numpy(), rtol=1e-4)


def test_a_model_that_reads_complete_surfaces_only_says_so(
    model: SurfaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_reads_missing", False)
    iv = model.sample(2, seed=1)
    iv[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 of iv has missing points, which this model was not trained to read"):
        model.encode(iv)


@pytest.mark.slow
def test_scores_are_the_density_of_a_linear_model(untrained: Vae, reading: tuple[Vae, SurfaceModel]) -> None:
    """A model without hidden layers that has learned is probabilistic PCA, whose density is known exactly."""
    _, model = reading
    iv = np.random.default_rng(1).normal(0.2, 0.02, (20, 2, 4)).astype(np.float32)
    iv[3, 0] = np.nan
    components = principal_components(data())
    expected = components.log_likelihood(torch.from_numpy(iv).double().flatten(1), 3).numpy()
    scores = model.score(iv=iv)
    np.testing.assert_allclose(scores.nats, expected, rtol=2e-4, atol=2e-3)
    assert np.isnan(scores.percentile[3])
    assert untrained.architecture.latents == model.latents


def test_percentiles_rank_by_nats_a_point(model: SurfaceModel) -> None:
    """The manifest of the test says that training surfaces have 1 to 5 nats a point, evenly."""
    scores = model.score(model.sample(200, seed=2, temperature=0.5))
    expected = np.clip(100.0 * (scores.nats / 8 - 1.0) / 4.0, 0.0, 100.0)
    np.testing.assert_allclose(scores.percentile, expected, atol=0.01)
    misfit = np.clip(100.0 * (scores.misfit / 8 - 0.5), 0.0, 100.0)
    np.testing.assert_allclose(scores.misfit_percentile, misfit, atol=0.01)
    np.testing.assert_allclose(scores.distance_percentile, np.clip(10.0 * scores.distance, 0.0, 100.0), atol=0.01)
    largest = np.clip(100.0 * (np.abs(scores.error).max((1, 2)) - 1.0) / 4.0, 0.0, 100.0)
    np.testing.assert_allclose(scores.error_percentile, largest, atol=0.01)


def test_samples_may_have_the_noise_of_observations(model: SurfaceModel) -> None:
    """Then surfaces of the model are as likely as its training surfaces, and their latents stay what they were."""
    means, found = (model.sample(600, seed=3, noise=noise) for noise in (False, True))
    relative = np.log(found / means) if model.manifest["transform"] == "log" else found - means
    assert relative.std() == pytest.approx(float(np.mean(model.manifest["noise"])), rel=0.05)
    drawn = model.draw(600, seed=3, noise=True)
    np.testing.assert_array_equal(drawn.iv, found)
    np.testing.assert_array_equal(np.concatenate(list(model.sample_blocks(600, seed=3, noise=True))), found)
    np.testing.assert_allclose(model.sample(10, seed=3, offset=590, noise=True), found[590:], rtol=1e-6)
    misfit = model.score(found[(found > 0.0).all((1, 2))]).misfit
    assert misfit.mean() == pytest.approx(found[0].size - model.latents, rel=0.2)


def test_a_surface_without_noise_and_one_with_a_wrong_point_are_odd(model: SurfaceModel) -> None:
    """The first fits better than quotes do; the second has its point named, and little else shows it."""
    smooth = model.decode(np.zeros((1, model.latents), np.float32))
    bumped = smooth.copy()
    bumped[0, 1, 2] += 10.0 * model.manifest["observation_scale_vol"]
    scores = model.score(np.concatenate([smooth, bumped]))
    assert scores.odd.all()
    assert scores.misfit_percentile[0] == 0.0
    assert scores.error_percentile.tolist() == [0.0, 100.0]
    assert scores.oddest[1].tolist() == [1, 2]
    assert scores.largest_error[1] == scores.error[1, 1, 2] > 5.0


def test_a_surface_with_few_points_has_no_rank(reading: tuple[Vae, SurfaceModel]) -> None:
    _, model = reading
    iv = np.full((1, *model.grid.shape), 0.2, np.float32)
    iv[0, 1] = np.nan
    scores = model.score(iv)
    for percentile in (scores.misfit_percentile, scores.distance_percentile, scores.error_percentile):
        assert np.isnan(percentile).all()
    assert not scores.odd.any()
    assert (scores.error[0, 1] == 0.0).all()


def test_one_vol_that_cannot_be_is_refused(model: SurfaceModel) -> None:
    iv = model.sample(2, seed=1)
    iv[1, 0, 2] = 100.0
    for call in (model.score, model.encode, model.reconstruct):
        with pytest.raises(ValueError, match=r"surface 1: the vol 100 at tenor 0, node 2, .* at most 5000 %"):
            call(iv)


def _overflows(model: SurfaceModel, monkeypatch: pytest.MonkeyPatch, graph: str) -> None:
    """Let a graph say of row 1 what arithmetic beyond single precision says."""
    run = model._graphs[graph].run_into

    class Overflowing:
        def run_into(self, feeds, outputs) -> None:
            run(feeds, outputs)
            for found in outputs.values():
                found[1] = np.float32(3e38) * np.float32(10.0) * np.float32(0.0)

    monkeypatch.setitem(model._graphs, graph, Overflowing())


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_what_is_too_wild_to_be_measured_is_the_oddest(
    reading: tuple[Vae, SurfaceModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only too few points leave a surface without a rank."""
    _, model = reading
    iv = model.sample(3, seed=1)
    iv[2, 1] = np.nan
    _overflows(model, monkeypatch, "scorer.onnx")
    scores = model.score(iv)
    assert scores.percentile[1] == 0.0
    assert scores.misfit_percentile[1] == scores.distance_percentile[1] == scores.error_percentile[1] == 100.0
    assert scores.odd[1]
    assert scores.nats[1] == -np.inf
    assert np.isnan(scores.percentile).tolist() == [False, False, True]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_posterior_that_is_not_finite_is_refused(model: SurfaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    iv = model.sample(3, seed=1)
    iv[1, 0, 3] = 9.0
    _overflows(model, monkeypatch, "encoder.onnx")
    with pytest.raises(ValueError, match=r"row 1 of iv is too far .*; its largest number is 9, at index 0, 3"):
        model.encode(iv)


def test_a_surface_is_completed_from_its_own_points(model: SurfaceModel) -> None:
    """As a surface with holes, as quotes by log-moneyness, and by call delta: the same answer."""
    surface = model.sample(1, seed=3)[0]
    holes = surface.copy()
    holes[:, ::2] = np.nan
    found = model.complete(holes)
    known = ~np.isnan(holes)
    k = GRID.log_moneyness[known]
    tenor = np.broadcast_to(GRID.tenors[:, None], holes.shape)[known]
    quotes = surface[known]
    deviation = quotes * np.sqrt(tenor)
    delta = [NormalDist().cdf(d) for d in (0.5 * deviation - k / deviation).tolist()]
    for other in (
        model.complete(quotes, tenor=tenor, log_moneyness=k),
        model.complete(quotes, tenor=tenor, call_delta=delta, weight=1.0),
    ):
        np.testing.assert_allclose(other.iv, found.iv, atol=2e-6)
    assert found.used.all()
    assert found.iv.shape == found.std.shape == (2, 4)
    assert (found.std > 0.0).all()
    np.testing.assert_allclose(found.fitted, quotes, atol=0.05)


@pytest.mark.slow
def test_completion_is_the_posterior_of_a_linear_model(reading: tuple[Vae, SurfaceModel]) -> None:
    """Mean and standard deviation of pPCA given three points, in closed form."""
    _, model = reading
    surface = data()[0].float().numpy().reshape(2, 4)
    holes = np.full_like(surface, np.nan)
    holes.ravel()[[0, 3, 6]] = surface.ravel()[[0, 3, 6]]
    found = model.complete(holes)
    components = principal_components(data())
    noise = components.noise_variance(3)
    loadings = components.vectors[:, :3] * (components.variances[:3] - noise).sqrt()
    own = loadings[[0, 3, 6]]
    covariance = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + own.T @ own / noise)
    error = torch.from_numpy(surface).double().flatten()[[0, 3, 6]] - components.mean[[0, 3, 6]]
    mean = components.mean + loadings @ covariance @ own.T @ error / noise
    variance = (loadings @ covariance * loadings).sum(1) + noise
    np.testing.assert_allclose(found.iv.ravel(), mean.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.std.ravel(), variance.sqrt().numpy(), rtol=1e-4)


def test_quotes_that_do_not_fit_are_warned_of_and_widen_the_intervals(model: SurfaceModel) -> None:
    """Five times the noise of 0.03 that the model learned, with alternating signs."""
    far = 0.2 + 0.15 * np.where(np.arange(8) % 2, -1.0, 1.0).reshape(2, 4)
    found, weighted = model.complete(far), model.complete(far, weight=1.0)
    fitting = model.complete(model.sample(1, seed=3)[0])
    assert (found.outside, weighted.outside, fitting.outside) == (True, True, False)
    assert (found.cause, fitting.cause, fitting.warning) == ("unknown", "none", None)
    assert found.noise > 2.0 * weighted.noise == 2.0 * fitting.noise
    assert f"{1e4 * found.noise:.1f} bp" in str(found.warning)
    assert "noise that their weights state" in str(weighted.warning)
    assert found.p_value == weighted.p_value < 0.005 <= fitting.p_value
    assert (found.std > weighted.std).all()


def test_surfaces_that_cannot_be_are_refused(model: SurfaceModel) -> None:
    holes = np.full((2, 4), np.nan)
    holes.ravel()[[0, 3, 6]] = 1.9, 0.02, 0.02
    with pytest.raises(ValueError, match=r"the surface through these quotes has the vol -.*leave wrong ones out"):
        model.complete(holes, weight=1e6)


def test_quotes_out_of_reach_are_reported_and_not_used(model: SurfaceModel) -> None:
    inside = model.complete([0.2, 0.21], tenor=[0.1, 0.5], log_moneyness=0.0)
    both = model.complete([0.2, 0.21, 0.9, 0.9], tenor=[0.1, 0.5, 2.0, 0.3], log_moneyness=[0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(both.used, [True, True, False, False])
    np.testing.assert_allclose(both.iv, inside.iv, atol=1e-6)
    assert np.isnan(both.fitted[2:]).all()
    with pytest.raises(ValueError, match=r"no quote is within reach of the grid: tenors 0.1 to 0.5 years"):
        model.complete([0.2], tenor=3.0, log_moneyness=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iv": [20.0, 21.0, 24.0]}, "the median vol 21 is 2100 %.* in percent it would be 21 %: divide by 100"),
        ({"iv": [0.2, 1e-5, 0.24]}, "the vol 1e-05 at index 1 is no quote beside a median of 0.2"),
        ({"iv": [0.2, 0.0, 0.24]}, "iv of quote 1 is 0; it must be positive and finite"),
        ({"iv": [0.2, np.nan, 0.24]}, "iv of quote 1 is nan"),
        ({"tenor": [36.5, 91.0, 182.0]}, "the tenor 182 is more than 50 years; in days it would be 0.499 years"),
        ({"log_moneyness": [95.0, 100.0, 105.0]}, "strike and forward are in different units"),
        ({"log_moneyness": None, "call_delta": [25.0, 50.0, 75.0]}, "the call delta 25 .*; deltas in percent"),
    ],
)
def test_quotes_in_another_unit_are_refused(model: SurfaceModel, change: dict, message: str) -> None:
    quotes = {"iv": [0.2, 0.21, 0.24], "tenor": [0.1, 0.2, 0.5], "log_moneyness": [0.1, 0.0, -0.1]}
    model.complete(**quotes)
    with pytest.raises(ValueError, match=message):
        model.complete(**{**quotes, **change})


def test_surfaces_in_percent_are_refused(model: SurfaceModel) -> None:
    percent = 100.0 * model.sample(3, seed=1)
    for call in (model.score, model.encode, lambda iv: model.complete(iv[0])):
        with pytest.raises(ValueError, match=r"the median vol .* in percent it would be"):
            call(percent)


def test_surfaces_have_coordinates(model: SurfaceModel) -> None:
    surfaces = model.surfaces(model.sample(3, seed=1))
    np.testing.assert_array_equal(surfaces.log_moneyness, GRID.log_moneyness)
    np.testing.assert_allclose(surfaces.at(0.0, 0.5).shape, (3, 1))


def test_models_and_completions_describe_themselves_in_a_line(model: SurfaceModel) -> None:
    assert repr(model) == (
        "<SurfaceModel: 2 tenors from 36 to 182 days x 4 nodes (sqrt_time -0.2 to 0.2); 3 latents; "
        "on CPUExecutionProvider>"
    )
    found = model.complete(model.sample(1, seed=0)[0])
    assert repr(found).startswith("<Completion: 2 tenors x 4 nodes from 8 of 8 quotes; median standard deviation ")
    assert f"{found.p_value:.0%} of held-out surfaces fit worse" in repr(found) or found.warning in repr(found)
    assert "\n" not in repr(found)


def test_threads_give_the_same_surfaces(model: SurfaceModel) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: model.sample(200, seed=seed % 2), range(16)))
    for n, surfaces in enumerate(results):
        np.testing.assert_array_equal(surfaces, results[n % 2])


def test_import_and_sampling_need_no_torch(bundle: Path) -> None:
    """Neither torch nor anything of the pipeline is loaded by a program that samples."""
    program = (
        "import sys; from vae.runtime import SurfaceModel; "
        f"SurfaceModel.load({str(bundle)!r}, provider='cpu').sample(3, seed=1); "
        "heavy = {'torch', 'scipy', 'onnx', 'mlflow', 'dvc', 'prefect', 'pydantic', 'pandas'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_onnxruntime_writes_nothing_to_the_home_folder(bundle: Path, tmp_path: Path) -> None:
    """Its telemetry keeps a device id and a database in the cache folder when it is on."""
    program = f"from vae.runtime import SurfaceModel; SurfaceModel.load({str(bundle)!r}, provider='cpu')"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def copy(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "bundle"))


def test_surfaces_are_decoded_into_memory_that_is_there(bundle: Path) -> None:
    model = SurfaceModel.load(bundle)
    z = np.random.default_rng(1).standard_normal((700, model.latents)).astype(np.float32)
    out = np.empty((700, *model.grid.shape), np.float32)
    assert model.decode(z, out=out) is out
    np.testing.assert_array_equal(out, model.decode(z))
    one = np.empty((1, *model.grid.shape), np.float32)
    np.testing.assert_allclose(model.decode(z[:1], out=one), out[:1], atol=1e-6)
    for wrong in (out[:5], out.astype(np.float64), np.asfortranarray(out), out[::2].repeat(2, 0)[::-1]):
        with pytest.raises(ValueError, match="out must be a writable, contiguous float32 array of shape"):
            model.decode(z, out=wrong)


def test_one_surface_is_decoded_as_in_a_batch(model: SurfaceModel) -> None:
    """By threads and by a forked process as well; no two calls share memory."""
    z = np.random.default_rng(1).standard_normal((200, 3)).astype(np.float32)
    expected = model.decode(z)
    rows = [model.decode(row[None]) for row in z]
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-6)
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda row: model.decode(row[None]), z))
    np.testing.assert_array_equal(threaded, rows)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(model.decode(z[:1]), rows[0]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(ValueError, match="row 0 is not"):
        model.decode(np.array([[0.0, np.nan, 0.0]]))


def test_all_sessions_can_be_started_at_once(bundle: Path, tmp_path: Path) -> None:
    """And a graph that is none is found then, not at its first call."""
    model = SurfaceModel.load(bundle, provider="cpu")
    model.start()
    assert all(graph._session is not None for graph in model._graphs.values())

    folder = copy(bundle, tmp_path)
    (folder / "scorer.onnx").write_bytes(b"no graph")
    write_checksum(folder, "scorer.onnx")
    with pytest.raises(BundleError, match=r"cannot load scorer\.onnx"):
        SurfaceModel.load(folder, provider="cpu").start()


@pytest.mark.parametrize("name", ["decoder.onnx", "completer.onnx"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_an_altered_file_is_refused(bundle: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = copy(bundle, tmp_path) / name
    graph = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "swapped":
        shutil.copy(bundle / ({"decoder.onnx", "completer.onnx"} - {name}).pop(), path)
    else:
        graph[100] ^= 1
        path.write_bytes(graph if damage == "flipped" else graph[:-50])
    with pytest.raises(BundleError, match=name):
        SurfaceModel.load(path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a bundle: .*manifest.json cannot be read"),
        ("{", "is not the manifest of a bundle"),
        ("[]", "is not the manifest of a bundle"),
        ('{"format": 99}', "has format 99; this version of volvae reads format 4"),
        ('{"format": 4}', "does not name decoder.onnx"),
    ],
)
def test_a_foreign_manifest_is_refused(bundle: Path, tmp_path: Path, text: str | None, message: str) -> None:
    path = copy(bundle, tmp_path) / "manifest.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BundleError, match=message):
        SurfaceModel.load(path.parent)


def test_a_file_that_is_no_graph_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Its checksum is right, its content is not."""
    folder = replace_graph(bundle, tmp_path, "decoder.onnx", b"no graph")
    with pytest.raises(BundleError, match=r"cannot load decoder\.onnx"):
        SurfaceModel.load(folder)


def replace_graph(bundle: Path, folder: Path, name: str, content: bytes) -> Path:
    """A bundle with another file in place of one, whose checksum agrees."""
    target = copy(bundle, folder)
    (target / name).write_bytes(content)
    write_checksum(target, name)
    return target


def test_a_foreign_graph_is_refused_by_its_inputs(bundle: Path, tmp_path: Path) -> None:
    """The encoder under the name of the decoder, its checksum right."""
    folder = replace_graph(bundle, tmp_path, "decoder.onnx", (bundle / "encoder.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"decoder.onnx has the inputs .*'iv'.*but this bundle's has .*'z'"):
        SurfaceModel.load(folder)


@pytest.mark.parametrize("place", ["../../../etc/passwd", "etc/passwd", "decoder.weights"])
def test_external_data_is_refused(bundle: Path, tmp_path: Path, place: str) -> None:
    """A graph whose weights would be read from another file of the machine, also below the current folder."""
    graph = onnx.load_from_string((bundle / "decoder.onnx").read_bytes())
    weights = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    folder = replace_graph(bundle, tmp_path, "decoder.onnx", graph.SerializeToString())
    with pytest.raises(BundleError, match=r"decoder.onnx has weights in another file"):
        SurfaceModel.load(folder)


@pytest.mark.parametrize(
    "key", ["grid", "latents", "residual_factors", "conditions", "reads_missing", "scores", "files"]
)
def test_a_manifest_without_a_key_is_refused(bundle: Path, tmp_path: Path, key: str) -> None:
    folder = copy(bundle, tmp_path)
    manifest = formats.read_json(folder / "manifest.json")
    del manifest[key]
    formats.write_json(folder / "manifest.json", manifest)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        SurfaceModel.load(folder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(0, seed=1), "n is 0; the number of surfaces must be between 1 and 2\\^50"),
        (lambda m: m.sample(2**63, seed=1), "between 1 and 2\\^50"),
        (lambda m: m.sample(1, seed=-1), "seed is -1; allowed: 0 to 2\\^64 - 1"),
        (lambda m: m.decode(np.zeros((2, 4))), r"z has shape \(2, 4\); expected \(batch, 3\)"),
        (lambda m: m.decode(np.zeros(3)), r"z has shape \(3,\)"),
        (lambda m: m.decode([[0, 0, 0], [0, np.nan, 0]]), "z must be finite, but row 1 is not"),
        (lambda m: m.encode(np.zeros((1, 4, 2))), r"iv has shape \(1, 4, 2\); expected \(batch, 2, 4\)"),
        (
            lambda m: m.encode(np.full((1, 2, 4), np.inf)),
            "iv must be positive and finite where it is known, but row 0 holds inf",
        ),
    ],
)
def test_bad_arguments_are_named(model: SurfaceModel, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model)


def test_an_unknown_or_absent_provider_is_named(bundle: Path) -> None:
    with pytest.raises(ValueError, match="provider is 'tpu'; allowed: auto, cpu, cuda, tensorrt"):
        SurfaceModel.load(bundle, provider="tpu")


def test_a_gpu_that_does_not_start_is_said(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries are loaded first, as onnxruntime does not look among wheels."""
    session, loaded = onnxruntime.InferenceSession, []
    monkeypatch.setattr(sessions, "available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "_has_driver", lambda: True)
    monkeypatch.setattr(sessions, "_load_cuda", lambda: loaded.append("libraries"))
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda content, settings, providers: session(content, settings)
    )
    with pytest.warns(RuntimeWarning, match="CUDAExecutionProvider does not start, so CPUExecutionProvider runs deco"):
        assert SurfaceModel.load(bundle).provider == "CPUExecutionProvider"
    with pytest.raises(ValueError, match="provider 'cuda' does not start; CPUExecutionProvider would run instead"):
        SurfaceModel.load(bundle, provider="cuda").provider  # noqa: B018 - starts a session
    assert loaded == ["libraries"] * 2


def test_only_the_loader_of_cuda_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of other threads are seen while it runs, and those of onnxruntime later."""

    def preload(others: Callable[[], None] = lambda: print("of another thread")) -> None:
        print("Failed to load libcudart.so.12")
        others()

    of_onnxruntime = FunctionType(preload.__code__, vars(onnxruntime), argdefs=preload.__defaults__)
    monkeypatch.setattr(onnxruntime, "preload_dlls", of_onnxruntime)
    sessions._load_cuda.__wrapped__()
    assert capsys.readouterr().out == "of another thread\n"
    of_onnxruntime()
    assert capsys.readouterr().out == "Failed to load libcudart.so.12\nof another thread\n"


def test_a_machine_without_a_driver_tries_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "_has_driver", lambda: False)
    assert sessions.SessionOptions().providers() == ["CPUExecutionProvider"]
