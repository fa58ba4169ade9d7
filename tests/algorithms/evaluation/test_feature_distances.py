"""Distances along a training are those of the evaluation."""

from dataclasses import replace

import pytest

from algorithms.evaluation.comparison import Comparison, evaluate_models
from algorithms.evaluation.feature_distances import FeatureDistances
from algorithms.evaluation.held_out import count_pairs
from tests.algorithms.evaluation.evaluation_toys import BrightnessEvaluator, generator
from tests.algorithms.nft_toys import DATA


def test_it_is_one_draw_of_the_evaluation(data, tmp_path):
    model, evaluator = generator(data, 0.1), BrightnessEvaluator(len(data.moas)).evaluator
    networks = {"judge": lambda images: evaluator.classify(images)[1], "inception": lambda images: images.std((2, 3))}
    distances = FeatureDistances.create(data, networks, contexts=14, seed=3, device="cpu")
    evaluator = replace(evaluator, features={"inception": networks["inception"]})
    options = Comparison(contexts=14, group_size=1, seed=3)
    long = evaluate_models({"base": model}, data, tmp_path, evaluator=evaluator, options=options)["rows"]
    for row, found in (("base", distances(model)), ("real", distances.floor)):
        assert found.keys() == {"frechet", "kernel", "frechet_inception", "kernel_inception"}
        assert found == pytest.approx({name: long[row][name] for name in found}, abs=1e-6)


def test_a_small_split_gives_all_that_it_has():
    networks = {"judge": lambda images: images.mean((2, 3))}
    distances = FeatureDistances.create(DATA, networks, contexts=999, seed=0, device="cpu")
    assert len(distances.contexts) == len(distances.real["judge"]) == count_pairs(DATA)
