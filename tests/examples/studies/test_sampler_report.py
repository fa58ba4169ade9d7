"""Differences and losses of a sampler against the published one, from scores made by hand."""

import numpy as np
import pytest

from algorithms.evaluation.periodic_eval import EvalResult
from algorithms.evaluation.statistics import Interval, bootstrap_counts
from cellenv.generator import Sampling
from examples.studies.sampler_report import SamplerComparison, SamplerScore, scale_interval


def test_an_interval_of_the_frechet_distance_is_centred_on_its_difference():
    counts = bootstrap_counts(4, np.random.default_rng(0), count=200)
    noise = np.random.default_rng(1).normal(size=200)

    def score(frechet, bias):
        result = EvalResult(
            values=dict.fromkeys(("total", "judge_moa"), [float(frechet)] * 4), figures={"frechet": frechet}
        )
        return SamplerScore(result=result, frechets=frechet + bias + 0.1 * frechet * noise)

    real = EvalResult(values={"total": [7.0] * 4}, figures={"frechet": 1.0})
    found = SamplerComparison.create(Sampling(), score(5.0, 3.0), score(4.0, 2.5), real, counts)
    assert found.frechet.mean == 1.0
    low, high = np.quantile(0.1 * (noise - noise.mean()), [0.025, 0.975])
    assert found.frechet == pytest.approx((1.0, 1 + low, 1 + high))
    assert found.frechet_loss == pytest.approx((0.25, (1 + low) / 4, (1 + high) / 4))
    assert found.total_loss == pytest.approx((-1 / 3, -1 / 3, -1 / 3))  # 4 to 5 on the way to 7: a gain
    assert found.worst_loss == pytest.approx(0.25)


def test_a_negative_factor_swaps_the_bounds():
    assert scale_interval(Interval(1.0, -1.0, 4.0), -2) == (-2.0, -8.0, 2.0)
