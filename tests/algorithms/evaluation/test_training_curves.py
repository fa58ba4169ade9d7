import numpy as np
import pytest

from algorithms.evaluation.pages.training_curves import metric, running_mean, training_charts
from tests.algorithms.evaluation.evaluation_toys import log


def test_a_mean_is_over_the_last_ten_finite_values():
    values = np.array([np.nan, 2.0, 4.0, *[10.0] * 12])
    mean = running_mean(values)
    assert np.isnan(mean[0]) and mean[1] == 2 and mean[2] == 3
    assert mean[9] == pytest.approx((2 + 4 + 7 * 10) / 9) and mean[12] == 10 and mean[11] == pytest.approx(94 / 10)


def test_a_chart_for_each_metric_with_a_line_for_each_run_that_has_it():
    logs = {"nft": log(), "grpo": [{**line, "drift": 0.5} for line in log(2.0)], "none": []}
    charts = training_charts(logs, {"nft": "a", "grpo": "b"}, {"moa": "MoA"})
    lines = {chart.title: [(line.label, line.tone) for line in chart.lines] for chart in charts}
    both = [("nft", "a"), ("grpo", "b")]
    assert lines == {"reward": both, "kl": both, "drift": both[1:], "MoA": both}
    assert all(line.thin and line.path for chart in charts for line in chart.lines)


def test_a_value_that_a_line_lacks_is_nan():
    assert np.isnan(metric([{"iteration": 0}, {"iteration": 1, "kl": 2.0}], "kl")).tolist() == [True, False]
