"""The examples of docs/quotes.md and docs/method.md are settings that can be used as they are."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.settings.params import Params
from pipeline.settings.prepare import ArrayPrepare
from vae.model.autoencoder import Architecture

ROOT = Path(__file__).parents[3]
WHOLE = ("grid", "quotes", "array")  # blocks that an example states whole
BLOCK = re.compile(r"```yaml\n(prepare:.*?)```", re.DOTALL)
CURRENCIES, INDEX, CHAIN, PAIRS, VECTORS, MOVING, PATHS = (
    YAML(typ="safe").load(block)
    for page in ("quotes.md", "method.md")
    for block in BLOCK.findall((ROOT / "docs" / page).read_text("utf-8"))
)


def changed(settings: dict[str, Any], by: dict[str, Any], whole: tuple[str, ...]) -> dict[str, Any]:
    return settings | {
        key: changed(settings[key], value, whole)
        if isinstance(value, dict) and isinstance(settings.get(key), dict) and key not in whole
        else value
        for key, value in by.items()
    }


@pytest.mark.parametrize(
    "example", [CURRENCIES, INDEX, CHAIN, VECTORS, PATHS, changed(CURRENCIES, PAIRS, ()), changed(INDEX, MOVING, ())]
)
def test_an_example_is_accepted_and_has_a_model(example: dict[str, Any]) -> None:
    project = YAML(typ="safe").load(ROOT / "params.yaml")
    if example["prepare"]["source"] == "array":
        del project["prepare"]["grid"]
    params = Params.model_validate(changed(project, example, WHOLE))
    prepare, sizes = params.prepare, params.train.model
    if isinstance(prepare, ArrayPrepare):
        dimension, likelihood = sizes.basis, prepare.array.likelihood
    else:
        dimension, likelihood = int(np.prod(prepare.grid.build().shape)), "gaussian"
    Architecture(**{"dimension": dimension, **sizes.model_dump()}, likelihood=likelihood)
