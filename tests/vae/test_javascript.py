"""A bundle in WebAssembly: onnxruntime-web in Node draws and decodes the same numbers as Python."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.workspace import Workspace
from vae.runtime import SurfaceModel

SCRIPTS = Path(__file__).parents[1] / "javascript"


@pytest.mark.slow
def test_webassembly_gives_the_numbers_of_python(node: str, finished: Workspace, tmp_path: Path) -> None:
    bundle = finished.folder / "artifacts/bundle"
    model = SurfaceModel.load(bundle, provider="cpu")
    z = np.random.default_rng(2).standard_normal((50, model.latents)).astype(np.float32)
    seed, offset, count = 2**64 - 3, 4090, 40
    request = {
        "key": str(seed),
        "offset": str(offset),
        "count": str(count),
        "temperature": 1.0,
        "standardNormal": False,
        "z": z.ravel().tolist(),
    }
    (tmp_path / "request.json").write_text(json.dumps(request | {"latents": model.latents}))

    command = [node, str(SCRIPTS / "sample.mjs"), str(bundle), str(tmp_path / "request.json")]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    drawn = model.sample(count, seed=seed, offset=offset)
    assert answer["shape"] == list(drawn.shape)
    np.testing.assert_allclose(np.reshape(answer["iv"], drawn.shape), drawn, atol=1e-6, rtol=0)
    np.testing.assert_allclose(
        np.reshape(answer["decoded"], (50, *model.grid.shape)), model.decode(z), atol=1e-6, rtol=0
    )
