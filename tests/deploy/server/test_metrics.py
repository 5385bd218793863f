"""Counters of workers that died."""

import os
from pathlib import Path

import pytest

from deploy.server import metrics

_DEAD = 2**22 + 1  # beyond what Linux gives


@pytest.mark.parametrize("refusal", [None, PermissionError, "gone"])
def test_gauges_of_the_dead_vanish_also_where_another_has_their_number(
    refusal: type[Exception] | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metrics.shared(tmp_path):
        left = tmp_path / f"gauge_livesum_{_DEAD}.db"
        left.touch()
        if refusal is PermissionError:
            monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(PermissionError))
        elif refusal == "gone":  # between the look and the removal, as two workers may be asked at once
            monkeypatch.setattr(metrics, "_alive", lambda _: bool(left.unlink()))
            monkeypatch.setattr(os, "remove", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
            monkeypatch.setattr("glob.glob", lambda pattern: [str(left)] if str(_DEAD) in pattern else [])
        assert metrics.exposition() == b""
        assert not left.exists()
