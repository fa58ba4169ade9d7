"""Scoring in this process: the scores, and what becomes of a reward that fails."""

import logging

import pytest

from algorithms.workers.scorer import LocalScorer, RewardError
from tests.algorithms.workers.worker_toys import ToySteps, batch, bright, fail


def test_the_scores_are_there_at_once():
    with LocalScorer(ToySteps({"bright": bright})) as scorer:
        scored = scorer.submit(batch(), 3)
        assert scored.done() and scored.result()["reward"].flatten().tolist() == batch()["action"].flatten().tolist()


def test_a_reward_that_fails_is_named_with_its_iteration_and_samples():
    scorer = LocalScorer(ToySteps({"bright": bright, "broken": fail}))
    with pytest.raises(RewardError, match=r"'broken' failed in iteration 3, samples 40 to 45: of the toy") as caught:
        scorer.submit(batch(40), 3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_reward_that_fails_is_nan_on_request_and_no_other(caplog):
    scorer = LocalScorer(ToySteps({"broken": fail, "bright": bright}), on_failure="nan")
    with caplog.at_level(logging.WARNING):
        rewards = scorer.submit(batch(), 3).result()["rewards"]
    assert rewards["broken"].isnan().all() and rewards["bright"].isfinite().all()
    assert "'broken' failed in iteration 3, samples 0 to 5: of the toy" in caplog.text
