"""Names of files that hold control characters neither end a line of a command nor move the cursor."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.errors import InputError, shown_message

DEMO = Path(__file__).parents[3] / "deploy/demo"
NAME = "a\n\x1b[31mvolvae: all is well\r.csv"
SHOWN = r"a\n\x1b[31mvolvae: all is well\r.csv"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", NAME),
        ("complete", NAME, "-o", f"out{NAME}", "--plot"),
        ("complete", f"missing{NAME}", "-o", "out.csv"),
        ("score", f"missing{NAME}", "-o", "out.csv"),
        ("sample", "-n", "1", "-o", f"out{NAME}.parquet"),
        ("inspect", f"missing{NAME}"),
        ("init", NAME, "--params", f"params{NAME}"),
        ("doctor", "--bundle", f"missing{NAME}"),
    ],
)
def test_lines_show_control_characters_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO / "quotes/smile.csv", tmp_path / NAME)
    bundle = () if arguments[0] in ("inspect", "init", "doctor") else ("--bundle", str(DEMO / "bundle"))
    found = CliRunner().invoke(main, [*arguments, *bundle])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    assert SHOWN in found.output
    assert "\x1b" not in found.output
    assert "\r" not in found.output
    assert not any(line.startswith(("\x1b", "[31m", "volvae: all")) for line in found.output.splitlines())


def test_further_lines_of_an_error_stay() -> None:
    assert shown_message(InputError("q.csv has 2 faults:", "column a", "column b\nc")) == (
        "q.csv has 2 faults:\n  column a\n  column b\\nc"
    )


@pytest.mark.parametrize(
    "arguments", [("complete", "-o", "out.csv"), ("score", "-o", "out.csv"), ("inspect",), ("init",)]
)
def test_no_name_makes_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\n  params.yaml: all settings are right"
    Path(name).write_text("x,y\n1,2\n")
    bundle = ("--bundle", str(DEMO / "bundle")) if "-o" in arguments else ()
    found = CliRunner().invoke(main, [*arguments, name, *bundle])
    assert r"a\n  params.yaml" in found.output
    assert not any(line.strip().startswith("params.yaml") for line in found.output.splitlines())


def test_what_is_not_used_of_a_file_is_shown_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a\n  b.csv"
    path.write_text("date,days,log_moneyness,iv,expiry\n" + "2026-03-02,30,0.0,0.2,soon\n" * 3)
    found = CliRunner().invoke(main, ["inspect", str(path)])
    assert any(line.startswith("not used: ") and r"a\n  b.csv" in line for line in found.output.splitlines())
    assert not any(line.startswith("  b.csv") for line in found.output.splitlines())
