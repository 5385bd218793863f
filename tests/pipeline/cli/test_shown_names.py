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
    assert shown_message(InputError("q.csv has 2 faults:\n  column a\n  column b\nc")) == (
        "q.csv has 2 faults:\n  column a\n  column b\\nc"
    )
