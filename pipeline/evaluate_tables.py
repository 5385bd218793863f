"""The tables of the stage evaluate that ``dvc plots`` draws: errors by tenor and node, and completions."""

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.files.csv_tables import write_csv
from pipeline.report.page import Evaluation
from pipeline.settings.evaluate import EvaluateParams
from vae.surface.grid import Grid

Table = tuple[tuple[str, ...], Sequence[tuple[float, ...]]]


def write(folder: Path, result: Evaluation, grid: Grid, settings: EvaluateParams) -> None:
    """Write all tables to a folder."""
    write_csv(folder / "error_by_tenor.csv", *_error_by_tenor(result, grid))
    write_csv(folder / "error_by_node.csv", *_error_by_node(result, grid))
    write_csv(folder / "completion.csv", *_completion(result, settings))


def _error_by_tenor(result: Evaluation, grid: Grid) -> Table:
    """Error of each tenor for the latents alone and for the whole model, beside PCA with as many numbers as each."""
    errors = result.error_by_tenor
    columns = (grid.tenors, *errors.values())
    header = ("tenor_years", *(f"{name}_rmse_bp" for name in errors))
    return header, list(zip(*(column.tolist() for column in columns), strict=True))


def _completion(result: Evaluation, settings: EvaluateParams) -> Table:
    """Completion from each number of points, for the model, PCA and the best linear opponent."""
    figures = result.figures
    rows = [
        (
            count,
            figures[f"completion_mae_bp_{count}"],
            figures[f"pca_completion_mae_bp_{count}"],
            figures[f"opponent_completion_mae_bp_{count}"],
            figures.get(f"interval_coverage_90_{count}", math.nan),
        )
        for count in settings.completion_points
        if f"completion_mae_bp_{count}" in figures
    ]
    header = (
        "known_points",
        "completion_mae_bp",
        "pca_completion_mae_bp",
        "opponent_completion_mae_bp",
        "interval_coverage_90",
    )
    return header, rows


def _error_by_node(result: Evaluation, grid: Grid) -> Table:
    """Error of each point of the grid, one row a point."""
    rows = [
        (tenor, node, result.error_by_point[i, j].item())
        for i, tenor in enumerate(grid.tenors.tolist())
        for j, node in enumerate(grid.nodes.tolist())
    ]
    return ("tenor_years", "node", "reconstruction_rmse_bp"), rows
