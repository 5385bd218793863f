"""The explorer estimates the noise of quotes by the rules of ``vae.quote_noise``: the two agree on a flat surface."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.deploy.serving import ROOT
from vae import quote_noise
from vae.quote_noise import QuotedVols

KNOWN, PRIOR = 1e-4, 0.01  # noise of a quote, and standard deviation of the level about 0.2

PROGRAM = """
const { estimate, warning } = await import(process.argv[1]);
const answers = [];
for (const { quotes, pValue } of JSON.parse(process.argv[2])) {
  const complete = async (weight) => {
    const precision = weight.map((one) => one / 1e-8);
    const variance = 1 / (1e4 + precision.reduce((sum, one) => sum + one, 0));
    const level = 0.2 + variance * precision.reduce((sum, one, i) => sum + one * (quotes.iv[i] - 0.2), 0);
    const all = (value) => quotes.iv.map(() => value);
    return { fitted: all(level), fittedStd: all(Math.sqrt(variance)), used: all(true), pValue };
  };
  const found = await estimate(complete, quotes, 1e-4);
  answers.push({ ...found, warning: warning(found, quotes, 1e-4) });
}
console.log(JSON.stringify(answers));
"""


def estimated(quotes: QuotedVols, p_value: float) -> quote_noise.NoiseEstimate:
    def complete(weight: NDArray[np.float32]) -> SimpleNamespace:
        precision = weight.astype(np.float64) / KNOWN**2
        variance = 1.0 / (PRIOR**-2 + precision.sum())
        level = np.full(len(weight), 0.2 + variance * (precision * (quotes.iv - 0.2)).sum())
        return SimpleNamespace(
            fitted=level, fitted_std=np.full_like(level, variance**0.5), used=level > 0.0, p_value=p_value
        )

    return quote_noise.estimate(complete, quotes, KNOWN)


def test_javascript_estimates_the_noise_of_python() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    random, cases = np.random.default_rng(1), []
    for count, p_value in ((5, 0.0), (15, 0.0), (60, 0.0), (60, 0.5)):
        tenor, k = random.uniform(0.05, 1.0, count), random.uniform(-0.2, 0.2, count)
        noisy = 0.2 + 2e-3 * random.standard_normal(count)
        noisy[0] += 0.05
        cases += [(QuotedVols(iv, tenor, k), p_value) for iv in (noisy, 0.2 + 0.05 * k)]
    sent = [
        {"quotes": {"iv": list(q.iv), "tenor": list(q.tenor), "logMoneyness": list(q.k)}, "pValue": p} for q, p in cases
    ]
    script = str(ROOT / "deploy/explorer/noise.js")
    command = [node, "--input-type=module", "-e", PROGRAM, script, json.dumps(sent)]
    answers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    causes = set()
    for (quotes, p_value), answer in zip(cases, answers, strict=True):
        expected = estimated(quotes, p_value)
        causes.add(expected.cause)
        assert (answer["cause"], answer["wild"]) == (expected.cause, expected.wild.tolist())
        assert answer["noise"] == pytest.approx(expected.noise, rel=1e-5)
        np.testing.assert_allclose(answer["weight"], expected.weight, rtol=1e-5)
        assert answer["warning"] == quote_noise.warning(expected, quotes, KNOWN)
    assert causes == {"none", "noise", "shape", "unknown"}


def test_javascript_says_the_same_of_quotes_with_weights() -> None:
    text = (ROOT / "deploy/explorer/noise.js").read_text()
    assert quote_noise.MISFIT_OF_WEIGHTS in text.replace('" +\n  "', "")
    assert f"LEAST_P = {quote_noise.LEAST_P};" in text
