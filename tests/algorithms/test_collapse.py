"""Signs of collapse in made-up metrics, and in toy runs that warn, stop and resume."""

import json
import math
from dataclasses import replace

import pytest
import torch

from algorithms.collapse import SIGNS, CollapseMonitor, Sign
from algorithms.launch import start_accelerator
from algorithms.trainer import train
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import toy_algorithm

HEALTHY = {"pixel_diversity": 0.5, "norm_ratio": 1.0, "kl": 0.0, "frac_reward_nan": 0.02, "reward": 1.0}


def signs_of(changed: dict[str, float], *, start: int = 40, steps: int = 80, **settings) -> dict[int, list[str]]:
    """Messages by iteration of a run that is healthy, with some wobble, and drifts from `start` on to other values."""
    monitor, found = CollapseMonitor(**settings), {}
    for i in range(steps):
        drift = min(max(i - start, 0) / 20, 1.0)
        wobble = 1 + 0.05 * math.sin(i)
        values = {name: wobble * (1 - drift) * x + drift * changed.get(name, x) for name, x in HEALTHY.items()}
        if messages := monitor.update(i, values):
            found[i] = messages
    return found


def test_a_healthy_run_shows_no_sign():
    assert signs_of({}) == {}
    assert signs_of({"pixel_diversity": 0.45, "norm_ratio": 1.08, "kl": 0.09, "frac_reward_nan": 0.05}) == {}


@pytest.mark.parametrize(
    ("metric", "value"),
    [("pixel_diversity", 0.3), ("norm_ratio", 1.4), ("kl", 0.3), ("frac_reward_nan", 0.3)],
)
def test_each_collapse_shows_its_own_sign_once_with_the_number_and_what_to_try(metric, value):
    ((iteration, (message,)),) = signs_of({metric: value}).items()
    assert 40 < iteration < 75
    assert message.startswith(f"iteration {iteration}: {metric} is ") and "--optim.learning-rate" in message


def test_the_other_direction_is_no_sign():
    assert signs_of({"pixel_diversity": 2.0, "norm_ratio": 0.5, "frac_reward_nan": 0.0}) == {}


def test_several_signs_are_all_found():
    assert sum(len(messages) for messages in signs_of({"pixel_diversity": 0.1, "kl": 0.5}).values()) == 2


def test_limits_are_of_the_means_of_the_windows():
    sign = Sign(metric="x", meaning="", advice="", factor=0.5, falls=True)
    monitor = CollapseMonitor(window=2, signs=[sign])
    found = [monitor.update(i, {"x": x}) for i, x in enumerate([1.0, 3.0, 0.0, 2.1, 0.0, 1.8])]
    assert [bool(messages) for messages in found] == [False] * 5 + [True]  # means 1.05, 1.05, 0.9 against 1
    assert "x is 0.9 (mean of 2 iterations), limit 1, 2 at the start" in found[-1][0]


def test_nothing_is_said_before_the_windows_are_full_and_apart():
    sign = Sign(metric="x", meaning="", advice="", factor=1.5)
    monitor = CollapseMonitor(window=3, signs=[sign])
    assert [i for i in range(9) if monitor.update(i, {"x": 1.0 if i < 3 else 9.0})] == [5]


def test_a_start_that_is_known_shows_a_collapse_of_the_first_iterations():
    monitor = CollapseMonitor()
    assert [i for i in range(30) if monitor.update(i, {"kl": 2.0, "norm_ratio": 1.0})] == [9]
    assert "kl is 2 (mean of 10 iterations), limit 0.1, 0 at the start" in monitor.found["kl"]


def test_a_peak_of_the_first_steps_is_no_sign():
    monitor = CollapseMonitor()
    kl = [0.0, 0.02, 0.02, 0.02, 0.07, 0.08, 0.003, 0.04, 0.01] + 20 * [0.01]  # of a training that went well
    assert [i for i, value in enumerate(kl) if monitor.update(i, {"kl": value})] == []


@pytest.mark.parametrize("metric", ["kl", "frac_reward_nan"])
def test_metrics_that_are_missing_or_not_finite_are_left_out(metric):
    monitor = CollapseMonitor(window=2)
    lines = [{metric: 0.0}, {metric: math.nan}, {}, {metric: math.inf}, {metric: math.nan}, {metric: 1.0}]
    assert [bool(monitor.update(i, line)) for i, line in enumerate(lines)] == [False] * 5 + [True]
    assert f"{metric} is 1 (mean" in monitor.summary()["signs of collapse"]


def test_replaying_a_log_leaves_the_monitor_as_it_was():
    lines = [{"iteration": i, "kl": 0.01 * i, "pixel_diversity": 1 / (1 + i)} for i in range(30)]
    straight, resumed = CollapseMonitor(window=4), CollapseMonitor(window=4)
    for line in lines:
        straight.update(line["iteration"], line)
    resumed.replay(lines)
    assert resumed == straight and set(resumed.found) == {"kl", "pixel_diversity"}
    assert resumed.update(30, {"kl": 9.0}) == []  # said already


def test_the_summary_says_what_showed_and_which_weights_were_kept():
    monitor = CollapseMonitor()
    assert monitor.summary() == {}
    monitor.found["kl"] = "kl is 3"
    assert monitor.summary() == {"signs of collapse": "kl is 3"}
    monitor.kept = 40
    assert monitor.summary() == {"signs of collapse": "kl is 3; stopped; the weights are those after 40 iterations"}


def test_signs_are_of_metrics_with_advice():
    assert len({sign.metric for sign in SIGNS}) == len(SIGNS) and all(sign.advice and sign.meaning for sign in SIGNS)


COLLAPSE, WINDOW = 7, 3  # the iteration from which on the images of a group are equal


def run(folder, *, collapse: bool = True, stop: bool = False, **config):
    """Toy run of twelve iterations, a checkpoint every two; returns its EMA and monitor."""
    algorithm = toy_algorithm()

    def collect(iteration, clock):
        td = algorithm.collect(iteration, clock)
        if collapse and iteration >= COLLAPSE:
            td["action"] = td["action"].unflatten(0, (-1, 6))[:, :1].expand(-1, 6, -1, -1, -1).flatten(0, 1).clone()
        return td

    monitor = CollapseMonitor(stop=stop, window=WINDOW, signs=SIGNS[:1])
    settings = train_config(folder, **({"iterations": 12, "save_every": 2, "learning_rate": 1e-3} | config))
    ema = train(start_accelerator(threads=1), settings, replace(algorithm, collect=collect), monitor=monitor)
    return ema, monitor


def iterations(folder) -> list[int]:
    return [json.loads(line)["iteration"] for line in (folder / "log.jsonl").read_text().splitlines()]


def same(ema, other) -> bool:
    return all(torch.equal(value, other.average[name]) for name, value in ema.average.items())


def test_a_run_warns_and_goes_on(tmp_path, caplog):
    _, monitor = run(tmp_path)
    assert iterations(tmp_path) == list(range(12)) and list(monitor.found) == ["pixel_diversity"]
    assert [record.message.split(" is ")[0] for record in caplog.records] == ["iteration 7: pixel_diversity"]


def test_a_healthy_run_is_not_stopped(tmp_path, caplog):
    _, monitor = run(tmp_path, collapse=False, stop=True)
    assert iterations(tmp_path) == list(range(12)) and monitor.summary() == {} and caplog.records == []


def test_a_stopped_run_keeps_the_average_from_before_the_window_that_shows_the_sign(tmp_path, caplog):
    ema, monitor = run(tmp_path / "stopped", stop=True)
    assert iterations(tmp_path / "stopped") == list(range(8))  # the window is iterations 5 to 7
    good, _ = run(tmp_path / "good", iterations=4)
    late, _ = run(tmp_path / "late", iterations=6)
    assert monitor.kept == 4 and same(ema, good) and not same(ema, late)
    assert "the averaged weights are those after 4 iterations" in caplog.text


def test_resuming_changes_nothing(tmp_path, caplog):
    straight, _ = run(tmp_path / "straight", stop=True)
    run(tmp_path / "resumed", stop=True, iterations=6)
    resumed, monitor = run(tmp_path / "resumed", stop=True, resume=True)
    again, _ = run(tmp_path / "resumed", stop=True, resume=True)
    assert monitor.kept == 4 and iterations(tmp_path / "resumed") == list(range(8))
    assert same(straight, resumed) and same(straight, again)
    assert len({record.message for record in caplog.records}) == 2


def test_a_collapse_of_the_first_iterations_goes_back_to_the_start(tmp_path):
    ema, monitor = run(tmp_path, stop=True, save_every=100)
    start = dict(toy_algorithm().theta.named_parameters())
    assert monitor.kept == 0 and all(torch.equal(value, start[name]) for name, value in ema.average.items())


def test_checkpoints_reach_back_however_often_they_are_written(tmp_path):
    _, monitor = run(tmp_path, stop=True, save_every=1)
    assert monitor.kept == 5  # the window is iterations 5 to 7


@pytest.mark.parametrize(("first", "longer", "taken_up"), [(12, 18, 6), (6, 12, 3)])
def test_a_run_made_longer_goes_back_to_where_it_was_taken_up(tmp_path, first, longer, taken_up):
    """And not to what the plan before left: no checkpoint before the window, or one whose learning rate fell."""
    run(tmp_path / "run", collapse=False, stop=True, iterations=first, cooldown=0.5)
    ema, monitor = run(tmp_path / "run", stop=True, iterations=longer, cooldown=0.5, save_every=100, resume=True)
    good, _ = run(tmp_path / "good", iterations=taken_up)
    assert monitor.kept == taken_up and same(ema, good)
