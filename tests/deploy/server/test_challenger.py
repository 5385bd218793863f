"""A challenger beside the champion: what it is scored by, when it is withdrawn, and who answers."""

import asyncio
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from prometheus_client import REGISTRY
from scipy import integrate, stats

from deploy.server.app import _repeat
from deploy.server.challenger import Challenge, Comparisons, Prediction, crps, predicted
from deploy.server.errors import LateError
from deploy.server.metrics import Metrics
from deploy.server.reload import Follower, challenger
from deploy.server.served import Served, fingerprint, load
from deploy.server.trial import Trials
from tests.bundles import write_checksum
from tests.deploy.serving import serving
from tests.services import wait_for
from vae.bundle import COMPLETER, MANIFEST
from vae.runtime import SurfaceModel

QUOTES = {"iv": [0.2, 0.21, 0.22], "tenor": [0.25, 0.5, 0.5], "log_moneyness": [0.0, 0.0, 0.05]}


# --- the score ---


@pytest.mark.slow
@given(st.floats(-3.0, 3.0), st.floats(-1.0, 1.0), st.floats(0.1, 3.0))
def test_the_score_is_the_integral_that_defines_it(value: float, mean: float, std: float) -> None:
    """Gneiting and Raftery (2007), equation 20: the integral of (F(y) - 1{y >= value})^2."""
    below = integrate.quad(lambda y: stats.norm.cdf(y, mean, std) ** 2, -np.inf, value)[0]
    above = integrate.quad(lambda y: stats.norm.sf(y, mean, std) ** 2, value, np.inf)[0]
    assert crps(value, mean, std) == pytest.approx(below + above, abs=1e-6)


def test_a_hidden_quote_is_predicted_as_if_it_had_not_been_sent(linear_bundle: Path) -> None:
    model = SurfaceModel.load(linear_bundle, provider="cpu", threads=1)
    tenor, node = 1, 1
    grid = model.grid
    quotes = {
        "iv": [0.2, 0.21, 0.3],
        "tenor": [*grid.tenors[[0, 1]], grid.tenors[tenor]],
        "log_moneyness": [0.0, 0.0, grid.nodes[node]],
    }
    rest = model.complete(**{name: column[:2] for name, column in quotes.items()}, weight=1.0)
    expected = crps(0.3, float(rest.iv[tenor, node]), float(rest.std[tenor, node]))
    # the noise of points differs a little; of a quote that is seen the score is a hundred times smaller
    assert predicted(model, quotes, 2).crps == pytest.approx(1e4 * expected, rel=0.02)


def test_a_quote_outside_of_the_grid_has_no_score(linear_bundle: Path) -> None:
    model = SurfaceModel.load(linear_bundle, provider="cpu", threads=1)
    quotes = {"iv": [0.2, 0.2], "tenor": [0.25, 50.0], "log_moneyness": [0.0, 0.0]}
    assert predicted(model, quotes, 1) is None


def test_noise_that_is_estimated_from_quotes_is_that_of_the_hidden_one(root: Path) -> None:
    """As a client gets the surface who sends no weights; at the noise that was learned the score is worse."""
    model = SurfaceModel.load(root / "deploy/demo/bundle", provider="cpu", threads=1)
    generator, grid = np.random.default_rng(1), model.grid
    surface = model.sample(1, seed=3)[0]
    tenors, nodes = generator.integers(0, len(grid.tenors), 40), generator.integers(0, len(grid.nodes), 40)
    noise = 100.0 * float(model.manifest["observation_scale_vol"])
    quotes = {
        "iv": surface[tenors, nodes] + noise * generator.standard_normal(40),
        "tenor": grid.tenors[tenors],
        "log_moneyness": grid.nodes[nodes] * np.sqrt(grid.tenors[tenors]),
    }
    rest = model.complete(**{name: column[1:] for name, column in quotes.items()})
    assert rest.noise > 10.0 * float(model.manifest["observation_scale_vol"])
    tenor, node = tenors[0], nodes[0]
    std = math.hypot(float(rest.std[tenor, node]), rest.noise)
    expected = 1e4 * crps(float(quotes["iv"][0]), float(rest.iv[tenor, node]), std)
    assert predicted(model, quotes, 0).crps == pytest.approx(expected, rel=0.05)
    assert predicted(model, {**quotes, "weight": np.ones(40)}, 0).crps > 1.05 * expected


# --- the verdict ---


def verdict(champion: np.ndarray, challenger: np.ndarray, times: float = 1.0) -> str | None:
    """The verdict on a record of these scores; both [comparison]."""
    record = Comparisons()
    for ours, theirs in zip(champion, challenger, strict=True):
        record.add(Prediction(ours, 1.0), Prediction(theirs, times))
    return record.withdrawn


def around(mean: float, error: float, count: int) -> np.ndarray:
    """Numbers of this mean, whose mean has this standard error, [count]."""
    signs = np.tile([1.0, -1.0], count // 2)
    return mean + signs * error * np.sqrt(count - 1)


@pytest.mark.parametrize(
    ("excess", "times", "reason"),
    [
        (around(0.39, 0.1, 128), 1.0, None),
        (around(0.41, 0.1, 128), 1.0, "it predicts hidden quotes 0.41 bp worse (CRPS of 128, standard error 0.1)"),
        (around(0.41, 0.1, 126), 1.0, None),  # before the first look
        (around(-0.41, 0.1, 128), 1.9, None),  # it is better, and not slow enough
        (around(0.009, 0.0, 128), 1.0, None),  # 0.9 % of the champion's score
        (around(0.0, 0.1, 128), 2.5, "it takes 2.5 times as long"),
    ],
)
def test_a_challenger_is_withdrawn_where_it_is_worse_or_slower(
    excess: np.ndarray, times: float, reason: str | None
) -> None:
    assert verdict(np.ones(len(excess)), 1.0 + excess, times) == reason


def test_a_few_slow_answers_do_not_count() -> None:
    record = Comparisons()
    for number in range(128):
        record.add(Prediction(1.0, 1.0), Prediction(1.0, 100.0 if number % 3 == 0 else 1.0))
    assert record.withdrawn is None


def test_an_equal_challenger_is_hardly_ever_withdrawn() -> None:
    """Two looks at four standard errors, one-sided: one of 400 has a probability of 4 %."""
    scores = np.random.default_rng(0).exponential(size=(400, 2, 256))
    assert sum(verdict(*pair) is not None for pair in scores) <= 1


def test_the_third_failure_withdraws() -> None:
    record = Comparisons()
    for expected in (None, None, "it fails where the champion answers: OSError"):
        record.failed("OSError")
        assert record.withdrawn == expected


# --- beside the champion ---


def with_fitted(bundle: Path, folder: Path, added: float) -> Path:
    """A copy of a bundle whose vols at the quotes are larger by a number."""
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / COMPLETER)
    last = next(node for node in model.graph.node if "fitted" in node.output)
    last.output[list(last.output).index("fitted")] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array(added, np.float32), "added"))
    model.graph.node.append(helper.make_node("Add", ["before", "added"], ["fitted"]))
    (folder / COMPLETER).write_bytes(model.SerializeToString())
    write_checksum(folder, COMPLETER)
    return folder


def challenge(folder: Path, counters: Metrics, *, share: float = 1.0, answers: float = 0.0) -> Challenge:
    trials = Trials(folder.with_name("tried"))
    if folder.exists():
        trials.note_fit(fingerprint(folder))
    follower = Follower(challenger(folder, counters), provider="cpu", threads=1, trials=trials)
    found = Challenge(follower, share=share, answers=answers, metrics=counters)
    found.refresh()
    return found


def ask(found: Challenge, champion: Served, quotes: dict = QUOTES) -> str:
    """The version that answers, after the comparison that the request started."""
    version = found.complete(champion, quotes, math.inf)[0].version
    if found._thread.ident is not None:
        found._thread.join()
    return version


@pytest.fixture
def champion(linear_bundle: Path) -> Served:
    return load(fingerprint(linear_bundle), provider="cpu", threads=1)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.slow
def test_a_worse_challenger_is_withdrawn_and_said_to_be(
    champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    found = challenge(with_fitted(linear_bundle, tmp_path / "worse", 0.5), counters, answers=1.0)
    before = sample("volvae_withdrawn_challengers_total")
    versions = [ask(found, champion) for _ in range(129)]
    assert versions[:128] == [found.follower.served.version] * 128
    assert versions[128] == champion.version
    assert sample("volvae_withdrawn_challengers_total") == before + 1
    assert sample("volvae_challengers", version=versions[0]) == 0.0
    assert found._record.withdrawn
    assert "bp worse" in found._record.withdrawn


def test_an_equal_challenger_of_another_version_stays(
    champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics
) -> None:
    found = challenge(with_fitted(linear_bundle, tmp_path / "equal", 0.0), counters)
    before = sample("volvae_hidden_quote_crps_bp_count", role="challenger")
    outside = {**QUOTES, "tenor": [0.25, 50.0, 50.0]}
    assert {ask(found, champion) for _ in range(40)} == {champion.version}  # compared, but it answers nothing
    assert {ask(found, champion, outside) for _ in range(8)} == {champion.version}
    after = sample("volvae_hidden_quote_crps_bp_count", role="challenger")
    assert before + 40 <= after < before + 48  # a hidden quote outside of the grid does not count
    assert math.isfinite(sample("volvae_hidden_quote_crps_bp_sum", role="challenger"))
    assert found._record.withdrawn is None


def test_where_a_challenger_fails_the_champion_answers(
    champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = challenge(with_fitted(linear_bundle, tmp_path / "failing", 0.0), counters, share=0.0, answers=1.0)
    own = SurfaceModel.complete

    def fails(model: SurfaceModel, *arguments: object, **named: object) -> object:
        if model.manifest == found.follower.served.surfaces.manifest:
            raise OSError
        return own(model, *arguments, **named)

    monkeypatch.setattr(SurfaceModel, "complete", fails)
    with pytest.raises(ValueError, match="iv"):  # the quotes are at fault, not the challenger
        ask(found, champion, {**QUOTES, "iv": [0.2, 0.2, -0.2]})
    for _ in range(3):
        assert found._record.withdrawn is None
        assert ask(found, champion) == champion.version
    assert found._record.withdrawn == "it fails where the champion answers: OSError"


def test_a_late_answer_is_no_failure(champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics) -> None:
    found = challenge(with_fitted(linear_bundle, tmp_path / "late", 0.0), counters, share=0.0, answers=1.0)

    for _ in range(3):
        with pytest.raises(LateError):
            found.complete(champion, QUOTES, deadline=-math.inf)
    assert found._record.withdrawn == "it fails where the champion answers: LateError"


def test_a_new_champion_gives_a_withdrawn_challenger_another_try(
    champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics
) -> None:
    found = challenge(with_fitted(linear_bundle, tmp_path / "again", 0.0), counters, answers=1.0)
    ask(found, champion)
    found._record.withdrawn = "it was worse"
    assert ask(found, champion) == champion.version
    assert ask(found, champion._replace(version="another")) == found.follower.served.version


def test_what_cannot_be_compared_takes_no_part(
    champion: Served, linear_bundle: Path, moving_bundle: Path, tmp_path: Path, counters: Metrics
) -> None:
    before = sample("volvae_hidden_quote_crps_bp_count", role="champion")
    other = tmp_path / "other"
    shutil.copytree(linear_bundle, other)
    manifest = json.loads((other / MANIFEST).read_text())
    manifest["grid"]["tenors"] = [2.0 * tenor for tenor in manifest["grid"]["tenors"]]
    (other / MANIFEST).write_text(json.dumps(manifest))
    for folder, reason in ((linear_bundle, "it is the champion itself"), (other, "its grid is another")):
        found = challenge(folder, counters, answers=1.0)
        assert ask(found, champion) == champion.version
        assert found._record.withdrawn == reason
    assert ask(challenge(tmp_path / "none", counters, answers=1.0), champion) == champion.version
    assert sample("volvae_hidden_quote_crps_bp_count", role="champion") == before


def test_a_challenger_whose_folder_is_gone_takes_no_part(
    champion: Served, linear_bundle: Path, tmp_path: Path, counters: Metrics
) -> None:
    folder = with_fitted(linear_bundle, tmp_path / "going", 0.0)
    found = challenge(folder, counters, answers=1.0)
    assert ask(found, champion) == found.follower.served.version
    shutil.rmtree(folder)
    found.refresh()
    assert ask(found, champion) == champion.version


def test_looks_go_on_after_one_that_fails() -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise OSError

    async def twice() -> None:
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(_repeat(look, 0.001, pool))
            while len(looks) < 2:
                await asyncio.sleep(0.001)
            task.cancel()

    asyncio.run(asyncio.wait_for(twice(), 60.0))


@pytest.mark.slow
def test_a_server_compares_and_lets_a_challenger_answer(linear_bundle: Path, tmp_path: Path) -> None:
    rival = with_fitted(linear_bundle, tmp_path / "rival", 0.001)
    options = ("--challenger", str(rival), "--challenger-share", "1", "--challenger-answers", "1", "--poll", "0.05")
    with serving(linear_bundle, tmp_path, *options) as server:
        version = fingerprint(rival).version

        def compared() -> bool:
            server.ask("POST", "/complete", json.dumps(QUOTES))
            return server.metrics().get(("volvae_hidden_quote_crps_bp_count", ("role", "challenger")), 0.0) > 0.0

        wait_for(compared, seconds=60, what="the first comparison")
        answer = server.ask("POST", "/complete", json.dumps(QUOTES)).json()
        assert answer["model_version"] == version
        assert server.metrics()["volvae_challengers", ("version", version)] == 1.0
        assert server.said("compares a challenger")[0]["version"] == version
        assert server.version() != version  # other routes are the champion's
