from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.runs.stage_order import stage_order


def test_order_is_that_of_the_project(root: Path) -> None:
    assert stage_order(root / "dvc.yaml") == ("source", "prepare", "train", "evaluate", "export", "register")


def test_order_follows_what_stages_read(tmp_path: Path) -> None:
    """Whatever the order in the file, and through outputs with options."""
    text = "stages: {b: {deps: [x], outs: [y]}, a: {outs: [{x: {cache: false}}]}, c: {deps: [y], metrics: [z]}}"
    (tmp_path / "dvc.yaml").write_text(text)
    assert stage_order(tmp_path / "dvc.yaml") == ("a", "b", "c")


@pytest.mark.parametrize("text", [None, "a: [", "stages: 3", "{}", "[" * 100_000])
def test_what_is_no_pipeline_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(InputError, match=r"dvc\.yaml"):
        stage_order(tmp_path / "dvc.yaml")
