"""Intervals and order of the leaderboard, from runs made by hand."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from cellenv.gym import Scale
from examples.studies.gym_report import leaderboard, score_interval, write_benchmark
from examples.studies.gym_training import AgentRun


def scale_of(untouched, gap=2.0):
    return Scale(fingerprint=None, untouched=tuple(untouched), oracle=tuple(np.asarray(untouched) + gap))


def test_the_interval_covers_contexts_and_seeds():
    rng, n = np.random.default_rng(0), 400
    untouched = rng.normal(0, 1, n)
    scale = scale_of(untouched)
    bounds = score_interval(np.asarray([untouched, scale.oracle]), scale)  # two seeds, of score 0 and 1
    assert bounds.mean == pytest.approx(0.5) and (bounds.low, bounds.high) == pytest.approx((0, 1))
    noisy = score_interval((untouched + rng.normal(1, 4, n))[None], scale)
    assert noisy.high - noisy.low == pytest.approx(2 * 1.96 * 4 / 2 / n**0.5, rel=0.15)
    equal = score_interval(np.asarray([scale.oracle] * 3), scale)
    assert equal.low == pytest.approx(1) and equal.high == pytest.approx(1)


def test_the_leaderboard_joins_seeds_and_is_sorted_by_task_and_score():
    untouched = np.zeros(5)
    runs = [
        AgentRun("Steer", "SAC", 0, untouched + 1.0),
        AgentRun("Select", "DQN", 0, untouched + 0.5),
        AgentRun("Select", "PPO", 0, untouched + 1.0),
        AgentRun("Select", "PPO", 1, untouched + 2.0),
    ]
    rows = leaderboard(runs, {"Select": scale_of(untouched), "Steer": scale_of(untouched, 4.0)})
    assert [(row["task"], row["agent"], row["score"], row["seeds"]) for row in rows] == [
        ("Select", "PPO", 0.75, 2),
        ("Select", "DQN", 0.25, 1),
        ("Steer", "SAC", 0.25, 1),
    ]


def test_curves_are_drawn_once_an_agent_has_one(tmp_path):
    untouched = np.zeros(5)
    scales = {"Select": scale_of(untouched)}
    constant = AgentRun("Select", "best constant", 0, untouched + 0.5)
    board = write_benchmark([constant], scales, tmp_path)
    assert board == (tmp_path / "leaderboard.md").read_text() and not (tmp_path / "curves.png").exists()
    learner = AgentRun("Select", "PPO", 3, untouched + 1.0, ((0, 0.1), (64, 0.5)))
    write_benchmark([constant, learner], scales, tmp_path)
    assert (tmp_path / "curves.csv").read_text().splitlines()[1:] == ["Select,PPO,3,0,0.1", "Select,PPO,3,64,0.5"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
