"""What the logs of trainings show: curves of each metric, iterations thin and means of the last ten thick."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from algorithms.evaluation.charts import Chart, Line, line_chart
from algorithms.logs import Log

WINDOW = 10  # iterations of a mean
SINGLE = {  # key of the log, and what it is
    "reward": "mean weighted sum of the rewards of what was drawn",
    "kl": "distance to the base",
    "drift": "distance to the old weights",
    "pixel_diversity": "difference of two images of a group",
    "norm_ratio": "rms of the velocity over the base's",
    "grad_norm": "norm of the gradient",
}


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the last ten finite values, or of as many as there are, at every iteration; nan where there are none."""
    windows = (values[max(0, i + 1 - WINDOW) : i + 1] for i in range(len(values)))
    finite = (window[np.isfinite(window)] for window in windows)
    return np.array([window.mean() if len(window) else np.nan for window in finite])


def metric(log: Log, key: str) -> NDArray[np.float64]:
    """Values of a metric, nan where a line has none."""
    return np.array([line.get(key, np.nan) for line in log], np.float64)


def reward_keys(logs: Mapping[str, Log]) -> dict[str, str]:
    """Keys of the means of all rewards, by name."""
    keys = dict.fromkeys(key for log in logs.values() for line in log for key in line)
    return {key.split("/")[1]: key for key in keys if key.startswith("rewards/") and key.endswith("/mean")}


def training_charts(logs: Mapping[str, Log], tones: Mapping[str, str], labels: Mapping[str, str]) -> list[Chart]:
    """A chart for each metric and reward that a log has, with a line for each run. labels: of rewards."""
    wanted = SINGLE | {key: "mean of what was drawn" for key in reward_keys(logs).values()}
    charts = []
    for key, note in wanted.items():
        found = {run: metric(log, key) for run, log in logs.items()}
        lines = [
            Line(run, tones[run], metric(logs[run], "iteration"), running_mean(y), thin=y)
            for run, y in found.items()
            if np.isfinite(y).any()
        ]
        name = key.removeprefix("rewards/").removesuffix("/mean")
        title = labels.get(name, name).replace("_", " ")
        charts += [line_chart(title, lines, note=note)] if lines else []
    return charts
