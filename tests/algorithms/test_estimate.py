from dataclasses import replace

import pytest

from algorithms import estimate
from algorithms.estimate import Estimate, estimate_evaluation, estimate_sampling, seconds_of
from algorithms.evaluation.evaluate import EvaluateConfig
from cellenv.generator import CellFlux, Sampling

load = CellFlux.from_pretrained


@pytest.fixture
def second_per_call(monkeypatch):
    """Nothing is run: each piece of work that is timed counts as one second."""
    monkeypatch.setattr(estimate, "seconds_of", lambda work: 1.0)


def test_an_estimate_is_printed_in_units_of_people():
    text = str(Estimate(nfe=1_234_567, seconds=125.4, memory=3 * 2**29))
    assert "1,234,567" in text and "2 min 5 s" in text and "1.5 GiB" in text


def test_the_first_call_warms_up_and_is_not_timed(monkeypatch):
    clock, costs = [0.0], iter([10.0, 1.0])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(costs)

    assert seconds_of(work) == 1.0


def test_sampling_scales_with_images_and_generators(save_base, second_per_call):
    base = load(save_base(Sampling(steps=3, solver="heun", noise_level=0.5)))  # 6 evaluations an image
    once = estimate_sampling([base], images=10, batch_size=4)
    assert (once.nfe, once.seconds) == (60, 2.5)
    assert estimate_sampling([base], images=20, batch_size=4)[:2] == (120, 5)
    assert estimate_sampling([base, base], images=10, batch_size=4)[:2] == (120, 5)
    assert estimate_sampling([base], images=2, batch_size=4)[:2] == (12, 1)  # a batch is no larger than the whole


def test_sampling_runs_a_batch_of_the_generator(save_base, monkeypatch):
    """What is timed are samples of the batch size."""
    sizes = []
    monkeypatch.setattr(estimate, "seconds_of", lambda work: sizes.append(tuple(work().shape)) or 1.0)
    estimate_sampling([load(save_base())], images=10, batch_size=3)
    assert sizes == [(3, 3, 96, 96)]


def test_an_evaluation_samples_its_generators_and_measures_real_images_too(save_base, second_per_call):
    base, config = load(save_base()), EvaluateConfig(batch_size=4)
    sampling = estimate_sampling([base, base], images=8, batch_size=4)
    whole = estimate_evaluation(config, [base, base], images=8)
    assert whole.nfe == sampling.nfe
    assert whole.seconds == sampling.seconds + 8 * 3 / 4  # two generators and the real images, four a second
    assert estimate_evaluation(replace(config, seed=1), [base, base], images=16).seconds == 2 * whole.seconds
