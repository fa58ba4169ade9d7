from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from algorithms.evaluation.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Line,
    Scale,
    bin_edges,
    encode_png,
    histogram_chart,
    line_chart,
    polygon,
    polyline,
)


def test_the_upper_and_right_spines_are_removed():
    """The corner pixels of a black frame that is 20 px inside a picture of 100 x 100."""
    figure = Figure(figsize=(1, 1), dpi=100)
    axes = figure.add_axes((0.2, 0.2, 0.6, 0.6), xticks=[], yticks=[])
    framed = np.asarray(Image.open(BytesIO(encode_png(figure, []))).convert("L"))
    opened = np.asarray(Image.open(BytesIO(encode_png(figure, [axes]))).convert("L"))
    frame = {"left": np.s_[50, 15:25], "bottom": np.s_[75:85, 50], "right": np.s_[50, 75:85], "top": np.s_[15:25, 50]}
    assert {name for name, line in frame.items() if framed[line].min() < 128} == {"left", "bottom", "right", "top"}
    assert {name for name, line in frame.items() if opened[line].min() < 128} == {"left", "bottom"}


def coordinates(path: str) -> np.ndarray:
    """Points of a path, (k, 2)."""
    return np.array([point.split() for point in path.replace("M", "L").strip("LZ").split("L")], float)


def test_lines_fill_the_plot_and_share_their_axes():
    chart = line_chart("reward", [Line("a", "a", [0, 10], [0.0, 1.0]), Line("b", "b", [5, 10], [0.5, 0.5])], rule=0.5)
    (first, second) = (coordinates(line.path) for line in chart.lines)
    assert first[:, 0].tolist() == [LEFT, RIGHT] and second[:, 0].tolist() == [(LEFT + RIGHT) / 2, RIGHT]
    assert BOTTOM - first[0, 1] == pytest.approx(first[1, 1] - TOP, abs=0.1) and 0 < first[1, 1] - TOP < 10
    assert second[0, 1] == second[1, 1] == chart.rule == pytest.approx(first[:, 1].mean(), abs=0.1)
    assert [text for _, text in chart.x_ticks] == ["0", "2", "4", "6", "8", "10"]


def test_a_gap_in_the_values_is_a_gap_in_the_line():
    assert polyline(np.arange(4.0), np.array([1, np.nan, 2, 3])) == "M0 1M2 2L3 3"
    assert polygon(np.arange(3.0), np.array([0, np.nan, 0]), np.array([1, 1, 2.0])) == "M0 0L2 0L2 2L0 1Z"
    assert polygon(np.arange(1.0), np.array([np.nan]), np.array([1.0])) == ""


def test_doublings_are_equally_wide():
    chart = line_chart("", [Line("a", "a", [1, 2, 4, 8], [0, 1, 2, 3], band=([0, 0, 1, 2], [1, 2, 3, 4]))], log_x=True)
    x = coordinates(chart.lines[0].path)[:, 0]
    assert np.allclose(np.diff(x), (RIGHT - LEFT) / 3, atol=0.2) and [t for _, t in chart.x_ticks] == [
        "1",
        "2",
        "4",
        "8",
    ]
    assert len(coordinates(chart.lines[0].band)) == 8


def test_constant_values_have_an_axis():
    chart = line_chart("", [Line("a", "a", [0, 1], [0.0, 0.0])])
    assert TOP < coordinates(chart.lines[0].path)[0, 1] < BOTTOM and len({text for _, text in chart.y_ticks}) > 1


def test_ticks_are_round_numbers_with_a_true_minus():
    assert [text for _, text in Scale(-2.3, 2.1, 0, 100).ticks(6)] == ["−2", "−1", "0", "1", "2"]
    assert [text for _, text in Scale(0, 1.5, 0, 100).ticks(5, whole=True)] == ["0", "1"]


def test_histograms_have_equal_areas_on_common_bins_and_leave_undefined_values_out():
    rng = np.random.default_rng(0)
    values = {
        "base": rng.normal(0, 1, 4000),
        "real": np.append(rng.normal(3, 1, 500), np.nan),
        "none": np.array([np.nan]),
    }
    chart = histogram_chart("size", values, {"base": "base", "real": "real"})
    assert [line.label for line in chart.lines] == ["base", "real"]
    areas = []
    for line in chart.lines:
        x, y = coordinates(line.path).T
        areas.append(((BOTTOM - y[::2]) * np.diff(x)[::2]).sum())
        assert x.min() == LEFT and x.max() == RIGHT and y.min() >= TOP
    assert areas[0] == pytest.approx(areas[1], rel=0.01)
    assert histogram_chart("size", {"none": np.array([np.nan])}, {}) is None


def test_counts_have_a_bar_each_and_other_values_equal_bins():
    assert bin_edges(np.array([2.0, 3, 5]), fewest=3).tolist() == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert len(bin_edges(np.linspace(0, 1, 1000), fewest=1000)) == 21
    assert len(bin_edges(np.linspace(0, 1, 10**5), fewest=10**5)) == 29
    assert len(bin_edges(np.full(9, 0.5), fewest=9)) > 2
