"""Works side by side in forked children end together."""

import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.forks import together


def _waits() -> int:
    threading.Event().wait()
    return 0


def _fails() -> int:
    print("broken", file=sys.stderr)
    return 3


@pytest.mark.parametrize("first", [True, False])
def test_one_that_waits_ends_with_one_that_fails(tmp_path: Path, *, first: bool) -> None:
    works = [_fails, _waits] if first else [_waits, _fails]
    failed, waited = together(works, tmp_path)[:: 1 if first else -1]
    assert (failed.code, failed.said) == (3, "broken\n")
    assert waited.code == -signal.SIGKILL


def test_ones_that_wait_end_with_their_time(tmp_path: Path) -> None:
    assert [one.code for one in together([_waits, _waits], tmp_path, seconds=0.1)] == [-signal.SIGKILL] * 2


def test_works_that_succeed_are_all_awaited(tmp_path: Path) -> None:
    def writes() -> int:
        Path("written").write_text("all")
        return 0

    assert [one.code for one in together([lambda: 0, writes], tmp_path)] == [0, 0]
    assert (tmp_path / "written").read_text() == "all"
