"""A part of the fault matrix; `make chaos` runs all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.faults import FAULTS
from chaos.matrix import main, print_rows


@pytest.mark.parametrize("unknown", [["--subject", "regsiter"], ["--fault", "SIGKIL"]])
def test_a_matrix_of_nothing_is_refused(
    unknown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would end without a violation."""
    monkeypatch.setattr(sys, "argv", ["chaos", *unknown])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"argument {unknown[0]}: invalid choice: '{unknown[1]}' (choose from " in capsys.readouterr().err
    with pytest.raises(SystemExit, match="leave nothing to strike"):
        print_rows([])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="faults are injected in front of glibc")
def test_no_fault_of_the_disk_breaks_a_promotion_or_a_fetch(root: Path, linear_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos", "--bundle", str(linear_bundle), "--most", "1"]
    faults = [*(fault.name for fault in FAULTS), "answer lost"]  # the other losses of a server need more time
    command += [part for name in faults for part in ("--fault", name)]
    command += ["--subject", "promote", "--subject", "fetch", "--pairs", "4", "--operations", "40", "--damages", "10"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 2 * len(faults) + 2 + 1 + 2
    assert {row[-1] for row in rows} == {"0"}
    trials = {(row[0], " ".join(row[1:-3])): int(row[-2]) for row in rows}
    assert trials["promote", "SIGKILL"] == 1
    assert trials["history", "at once"] == 40
