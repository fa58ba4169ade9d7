"""The short evaluation agrees with the long one."""

import math
from dataclasses import replace

import pytest
import torch

from algorithms.evaluation.comparison import Comparison, evaluate_models
from algorithms.evaluation.periodic_eval import EvalResult, PeriodicEval
from tests.algorithms.evaluation.evaluation_toys import BrightnessEvaluator, generator


@pytest.fixture
def evaluator(data):
    return BrightnessEvaluator(len(data.moas)).evaluator


@pytest.mark.parametrize("group_size", [1, 2])
def test_it_is_the_evaluation_of_as_many_samples(data, evaluator, group_size, tmp_path):
    model = generator(data, 0.1)
    short = PeriodicEval.create(data, evaluator, contexts=14, group_size=group_size, seed=3)
    options = Comparison(contexts=14, group_size=group_size, seed=3)
    long = evaluate_models({"base": model}, data, tmp_path, evaluator=evaluator, options=options)["rows"]
    for row, result in (("base", short(model)), ("real", short.evaluate(short.real))):
        means = result.means()
        figures = {"frechet", "kernel"} | ({"diversity"} if row == "base" and group_size > 1 else set())
        assert means.keys() == {"total", "bright", "dark", "judge_bright"} | figures
        for name in figures:
            assert means[name] == pytest.approx(long[row][name])
        for name in means.keys() - figures:
            assert means[name] == pytest.approx(long[row][name]["mean"], abs=2e-5)


def test_noise_is_the_same_every_time(data, evaluator):
    short, model = PeriodicEval.create(data, evaluator, contexts=5), generator(data, 0.1)
    assert short(model) == short(model)
    assert short.sample(model).std(0).mean() > 0.05  # and not the same for every context


def test_undefined_values_are_none_and_left_out_of_the_mean(data, evaluator):
    first_channel = replace(evaluator, classify=lambda x: (torch.ones(len(x), 2), x[:, :1].mean((2, 3))))
    short = PeriodicEval.create(data, first_channel, contexts=5)
    images = short.real.clone()
    images[2, 1:] = torch.nan
    result = short.evaluate(images)
    assert result.values["total"].index(None) == 2
    rest = torch.tensor([0, 1, 3, 4])
    assert result.means()["total"] == pytest.approx(short.real[rest].mean().item(), abs=2e-5)


def test_means_of_a_result():
    result = EvalResult(values={"total": [1.0, None, 3.0]}, figures={"frechet": 0.5, "kernel": None})
    assert result.means() == pytest.approx({"total": 2.0, "frechet": 0.5, "kernel": math.nan}, nan_ok=True)
    assert math.isnan(result.figure("diversity"))
