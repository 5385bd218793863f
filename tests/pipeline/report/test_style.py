"""The report and the explorer look the same."""

from pathlib import Path

from pipeline.report.style import STYLE


def test_the_report_has_the_style_sheet_of_the_explorer(root: Path) -> None:
    assert (root / "deploy/explorer/look.css").read_text("utf-8") == STYLE
