import datetime as dt
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts import Axis, Level, Mark, chart, date_ticks, heat_map, surface, ticks
from vae.surface.days import day_of

NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)


def elements(picture: str, kind: str) -> list[ElementTree.Element]:
    """The elements of a kind in the SVG of a chart, which is well-formed XML."""
    svg = picture[picture.index("<svg") :]
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag == kind]


def dots(picture: str) -> np.ndarray:
    """Places of the points, [point, 2]."""
    return np.array([[float(dot.get(axis, "nan")) for axis in ("cx", "cy")] for dot in elements(picture, "circle")])


@given(NUMBERS, st.floats(1e-3, 1e6))
def test_ticks_are_round_even_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width, log=False)
    assert 3 <= len(found) <= 8
    assert low - 1e-6 * width <= found[0] < found[-1] <= low + width * (1 + 1e-6)
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    digits = steps[0] / 10 ** math.floor(math.log10(steps[0] * (1 + 1e-6)))
    assert min(abs(digits - round_one) for round_one in (1.0, 2.0, 2.5, 5.0)) < 1e-3


@given(st.floats(-20_000.0, 60_000.0), st.floats(2.0, 2_800_000.0))
def test_dates_that_an_axis_names_are_few_inside_and_true(low: float, width: float) -> None:
    found = date_ticks(low, low + width)
    assert 1 <= len(found) <= 6
    for day, name in found.items():
        assert low <= day <= low + width
        assert day_of(dt.date.fromisoformat(name if name.count("-") == 2 else f"{name}-01")) == day


@given(st.floats(1e-6, 1e6), st.floats(4.0, 1e6))
def test_ticks_of_a_logarithmic_axis_are_ones_twos_and_fives(low: float, ratio: float) -> None:
    found = ticks(low, low * ratio, log=True)
    assert found
    assert all(low * (1 - 1e-6) <= tick <= low * ratio * (1 + 1e-6) for tick in found)
    assert {f"{tick:e}"[0] for tick in found} <= {"1", "2", "5"}


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis() -> None:
    picture = chart([Mark([1, 10, 100], [3, 3, 3], shape="dots")], Axis("x", log=True), Axis("y"), label="l")
    first, second, third = dots(picture)[:, 0]
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert "x (logarithmic)" in picture
    assert "y (logarithmic)" not in picture


def test_a_level_is_as_high_as_a_point_of_its_number() -> None:
    picture = chart([Mark([0, 1], [2.0, 7.0], shape="dots")], Axis("x"), Axis("y"), levels=[Level(7.0, "l")], label="l")
    (height,) = re.findall(r'class="level" d="M\S+ (\S+)H', picture)
    assert float(height) == dots(picture)[1, 1] < dots(picture)[0, 1]


def test_an_axis_holds_levels_bars_and_what_it_is_told() -> None:
    marks = [Mark([0], [0.0], shape="bars", low=[-3.0], high=[4.0])]
    picture = chart(marks, Axis("x"), Axis("y", holds=(9.0,)), levels=[Level(-5.0, "below")], label="l")
    names = [float(text.text) for text in elements(picture, "text") if re.fullmatch(r"-?[\d.]+", text.text or "")]
    assert min(names) <= -4
    assert max(names) >= 7.5
    numbers = [float(number) for number in re.findall(r'd="M\S+ (\S+)[VH]', picture)]
    assert all(0.0 <= number <= 300.0 for number in numbers)


def test_unknown_points_are_left_out_and_text_is_escaped() -> None:
    marks = [Mark([0, 1, 2], [1.0, math.nan, 3.0], "<b>&", "own", "line dots")]
    picture = chart(marks, Axis("<x>"), Axis("y"), label='"quoted"')
    assert len(dots(picture)) == 2
    assert "nan" not in picture
    assert "&lt;b&gt;&amp;" in picture
    assert elements(picture, "svg")[0].get("aria-label") == '"quoted"'


def test_a_chart_of_nothing_is_a_chart() -> None:
    for log in (False, True):
        assert elements(chart([Mark([], [])], Axis("x", log=log), Axis("y", log=log), label="l"), "svg")


def test_the_darkest_cell_is_the_largest_number() -> None:
    z = np.array([[1.0, 2.0, 0.0], [4.0, 3.0, 1.0]])
    cells = elements(heat_map([1, 2, 3], [5, 6], z, (Axis("x"), Axis("y")), unit="bp", label="l"), "rect")
    shades = np.array([float(cell.get("fill-opacity", "nan")) for cell in cells]).reshape(z.shape)
    np.testing.assert_allclose(shades, z / 4.0)
    heights = [float(cell.get("y", "nan")) for cell in cells]
    assert heights[0] > heights[3], "the first row is at the bottom"


def test_faces_in_front_are_drawn_last() -> None:
    """The corner of the last column and the first row is nearest to the eye, as it is lowest on a flat surface."""
    flat = np.ones((3, 3))
    faces = elements(surface([0, 1, 2], [0, 1, 2], flat, ends=("x", "y"), unit="%", label="l"), "polygon")
    lowest = [max(float(point.split(",")[1]) for point in face.get("points", "").split()) for face in faces]
    assert len(faces) == 4
    assert lowest[-1] == max(lowest)
    assert lowest[0] == min(lowest)
