"""Leaderboard and learning curves of the Gymnasium benchmark. S seeds, n contexts, K bootstrap resamples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.statistics import Interval, bootstrap_counts
from algorithms.files import write_whole
from cellenv.gym import Scale
from examples.studies.gym_agents import LEARNERS
from examples.studies.gym_training import AgentRun
from examples.studies.results import write_csv

COLOURS = ("#d1495b", "#3d5a9e")
GREY = "#6b7280"

Row = Mapping[str, Any]


def write_benchmark(runs: Sequence[AgentRun], scales: Mapping[str, Scale], folder: Path) -> str:
    """Write leaderboard and curves of the runs so far; returns the leaderboard as Markdown."""
    rows = leaderboard(runs, scales)
    board = markdown(rows)
    write_whole(folder / "leaderboard.md", board.encode())
    write_csv(folder / "leaderboard.csv", rows)
    if points := curve_rows(runs):
        write_csv(folder / "curves.csv", points)
        write_whole(folder / "curves.png", plot_curves(runs, rows))
    return board


def score_interval(rewards: NDArray[np.float64], scale: Scale) -> Interval:
    """Score of rewards (S, n), with the bootstrap interval over contexts and seeds."""
    rng = np.random.default_rng(0)
    untouched, oracle = np.asarray(scale.untouched), np.asarray(scale.oracle)
    contexts = bootstrap_counts(rewards.shape[1], rng) / rewards.shape[1]  # (K, n)
    seeds = bootstrap_counts(len(rewards), rng) / len(rewards)  # (K, S)
    mean_rewards = (contexts @ rewards.T * seeds).sum(1)  # (K,)
    scores = (mean_rewards - contexts @ untouched) / (contexts @ (oracle - untouched))
    low, high = np.quantile(scores, [0.025, 0.975])
    return Interval(float(scale.score(rewards).mean()), float(low), float(high))


def leaderboard(runs: Sequence[AgentRun], scales: Mapping[str, Scale]) -> list[dict[str, Any]]:
    """One row per task and agent, best first."""
    rows = []
    for task, agent in dict.fromkeys((run.task, run.agent) for run in runs):
        rewards = np.stack([run.rewards for run in runs if (run.task, run.agent) == (task, agent)])  # (S, n)
        score, low, high = score_interval(rewards, scales[task])
        row = {"task": task, "agent": agent, "score": score, "low": low, "high": high}
        rows.append(row | {"reward": float(rewards.mean()), "seeds": len(rewards), "contexts": rewards.shape[1]})
    return sorted(rows, key=lambda row: (row["task"], -row["score"]))


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/benchmark.md."""
    lines = ["| task | agent | score | 95 % interval | mean reward | seeds |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = f"{row['score']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['reward']:.3f} | {row['seeds']}"
        lines.append(f"| {row['task']} | {row['agent']} | {cells} |")
    return "\n".join(lines) + "\n"


def curve_rows(runs: Sequence[AgentRun]) -> list[dict[str, Any]]:
    """One row per point of each learning curve."""
    return [
        {"task": run.task, "agent": run.agent, "seed": run.seed, "steps": steps, "score": score}
        for run in runs
        for steps, score in run.curve
    ]


def plot_curves(runs: Sequence[AgentRun], rows: Sequence[Row]) -> bytes:
    """PNG: a panel per task with the curves of all seeds, and the best constant as a band."""
    tasks = list(dict.fromkeys(run.task for run in runs))
    figure = Figure(figsize=(5.2 * len(tasks), 3.8), dpi=150, layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for agent, colour in zip(LEARNERS[task], COLOURS, strict=True):
            for i, run in enumerate(run for run in runs if (run.task, run.agent) == (task, agent)):
                steps, scores = zip(*run.curve, strict=True)
                axes.plot(steps, scores, color=colour, linewidth=1, label=agent if i == 0 else None)
        for row in (row for row in rows if (row["task"], row["agent"]) == (task, "best constant")):
            axes.axhspan(row["low"], row["high"], color=GREY, alpha=0.25, linewidth=0, label="best constant")
        axes.axhline(1, color="black", linestyle=":", linewidth=1, label="oracle")
        axes.set(title=task, xlabel="environment steps", ylabel="score")
        axes.legend(frameon=False)
    return encode_png(figure, figure.axes)
