"""The embedded world's evaluator: it finds real cells real, and notices what is wrong with others."""

from dataclasses import replace

import pytest
import torch

from algorithms.build import build_rewards
from algorithms.config import RewardConfig
from algorithms.evaluation.evaluator import CachedCall, build_evaluator
from algorithms.evaluation.measurement import Row, measure_row
from rewards import SUITE, WEIGHTS, JudgeClassifier, JudgeSegmenter, MoAClassifier
from rewards.measures import measure
from rewards.segmentation import ClassicalSegmenter
from tests.algorithms.evaluation.evaluation_toys import reference_by_compound

MEASURES = {spec.name: spec.measure for spec in SUITE if spec.measure}


@pytest.fixture(scope="module")
def embedded(data):
    return build_evaluator(data)


@pytest.fixture(scope="module")
def cells(data):
    rows = data.treated[::11]  # of all doses
    return data.images(rows), data.contexts(rows, torch.Generator().manual_seed(0))


def test_results_are_cached_for_the_same_images_and_computed_anew_for_others():
    calls = []
    cached = CachedCall(lambda images, *args: calls.append(images) or len(calls))
    images = torch.zeros(2, 3, 4, 4)
    assert [cached(images), cached(images.reshape(-1, 3, 4, 4)), len(calls)] == [1, 1, 1]
    assert cached(images, "DNA") == 2 and cached(images[:1], "DNA") == 3
    for expected in range(4, 30):  # memory that was given back must not pass for the same images
        assert cached(torch.full((2, 3, 4, 4), float(expected))) == expected
    assert cached(images) == 30 and cached(images.mT) == 31  # of one address and shape


def test_rewards_and_judges_agree_that_real_cells_are_real(embedded, cells):
    images, contexts = cells
    values = measure_row(Row.of(images.unsqueeze(1)), contexts, embedded)
    assert list(values["interval"].keys()) == ["total", *WEIGHTS, "judge_moa", "judge_containment"]
    weighted = sum(weight * values["interval", name] for name, weight in WEIGHTS.items())
    torch.testing.assert_close(values["interval", "total"], weighted)
    for name, least in {"moa": 0.65, "judge_moa": 0.5, "containment": 0.9, "judge_containment": 0.9}.items():
        assert values["interval", name].mean() > least
    assert values["right"].double().mean() > 0.6
    assert (values["measure", "nucleus_size"] < values["measure", "cell_size"]).double().mean() > 0.9
    assert set(values["measure"].keys()) == set(embedded.sigma) == set(MEASURES)


def test_a_misplaced_nucleus_lowers_the_reward_and_the_judge(embedded, cells, data):
    images, contexts = cells
    dna, moved = data.channels.index("DNA"), images.clone()
    moved[:, dna] = moved[:, dna].roll((40, 40), (1, 2))
    values = measure_row(Row.of(moved.unsqueeze(1)), contexts, embedded)["interval"]
    assert values["containment"].mean() < 0.75 and values["judge_containment"].mean() < 0.75
    black = measure_row(Row.of(-torch.ones_like(images[:4]).unsqueeze(1)), contexts[:4], embedded)["interval"]
    assert (black["containment"] == 0).all() and (black["judge_containment"] == 0).all()


def test_judge_scores_and_classes_are_those_of_the_held_out_models(embedded, cells):
    images, contexts = (values[:8] for values in cells)
    judge = JudgeClassifier.from_pretrained()
    with torch.no_grad():
        probabilities, features = embedded.classify(images)
        torch.testing.assert_close(probabilities, judge(images).softmax(1))
        torch.testing.assert_close(features, judge.features(images))
        scored = {name: values.flatten() for name, values in embedded.judge_scores(images, contexts).items()}
    torch.testing.assert_close(scored["moa"], probabilities[torch.arange(8), contexts["moa"]])
    torch.testing.assert_close(scored["containment"], measure(JudgeSegmenter.from_pretrained()(images))["containment"])


def test_rewards_and_measures_use_the_segmenter_of_the_suite(embedded, cells, data):
    images, contexts = (values[:9] for values in cells)
    rewards = build_rewards(RewardConfig(), "cpu")
    object.__setattr__(rewards, "segmenter", ClassicalSegmenter())
    evaluator = build_evaluator(data, rewards)
    expected = measure(ClassicalSegmenter()(images))
    assert evaluator.measure(images)["cell_size"].equal(expected["cell_area_max"])
    torch.testing.assert_close(evaluator.score(images, contexts)["containment"].flatten(), expected["containment"])
    assert not embedded.measure(images)["cell_size"].equal(expected["cell_area_max"])


def test_what_is_reported_follows_the_terms_of_the_rewards(cells, data, tmp_path):
    (tmp_path / "mine.py").write_text("def brightness(images):\n    return images.mean((1, 2, 3))\n")
    terms = ("moa=0", "roundness=0", f"light={tmp_path / 'mine.py'}:brightness:3")
    evaluator = build_evaluator(data, build_rewards(RewardConfig(terms=terms), "cpu"))
    images, contexts = (values[:6] for values in cells)
    values = measure_row(Row.of(images.unsqueeze(1)), contexts, evaluator)["interval"]
    names = [spec.name for spec in evaluator.specs]
    assert names == [name for name in WEIGHTS if name not in ("moa", "roundness")] + ["light"]
    assert list(values.keys()) == ["total", *names, "judge_containment"]
    torch.testing.assert_close(values["light"].squeeze(1), images.mean((1, 2, 3)))
    weighted = sum(WEIGHTS.get(name, 3) * values[name] for name in names)
    torch.testing.assert_close(values["total"], weighted)
    assert "roundness" not in evaluator.sigma


def test_without_judged_rewards_and_measures_only_the_others_are_computed(cells, data, tmp_path):
    (tmp_path / "mine.py").write_text("def brightness(images):\n    return images.mean((1, 2, 3))\n")
    terms = (*(f"{name}=0" for name in WEIGHTS), f"light={tmp_path / 'mine.py'}:brightness")
    evaluator = build_evaluator(data, build_rewards(RewardConfig(terms=terms), "cpu"))
    images, contexts = (values[:3] for values in cells)
    values = measure_row(Row.of(images.unsqueeze(1)), contexts, evaluator)
    assert list(values["interval"].keys()) == ["total", "light"] and list(values["measure"].keys()) == []
    assert torch.equal(values["interval", "total"], values["interval", "light"])


def test_cells_without_mechanisms_are_measured_by_their_compounds(data, cells, tmp_path, monkeypatch):
    reference_by_compound(data).save(tmp_path / "reference.json")
    config = RewardConfig(reference=tmp_path / "reference.json")
    images, contexts = (values[:6] for values in cells)
    row = Row.of(images.unsqueeze(1))
    expected = measure_row(row, contexts, build_evaluator(data, build_rewards(config, "cpu", data)))
    monkeypatch.setattr(type(data), "moas", ())
    evaluator = build_evaluator(data, build_rewards(config, "cpu", data))
    values = measure_row(row, contexts.exclude("moa"), evaluator)
    assert "right" in expected and "right" not in values and not list(values["features"].keys())
    assert torch.equal(values["interval", "cell_size"], expected["interval", "cell_size"])
    assert "moa" not in values["interval"] and "judge_containment" in values["interval"]
    with_judge = build_evaluator(data, build_rewards(config, "cpu", data), judge=JudgeClassifier.from_pretrained())
    values = measure_row(row, contexts.exclude("moa"), with_judge)
    assert torch.equal(values["features", "judge"], expected["features", "judge"]) and "right" not in values


def test_weights_of_another_world_are_refused(data, monkeypatch):
    monkeypatch.setattr(type(data), "moas", ("one", "two"))
    with pytest.raises(ValueError, match=r"the judge knows the MoAs .*; the data have \('one', 'two'\)"):
        build_evaluator(data)


def test_a_classifier_of_another_order_is_refused_whatever_the_reference_is_by(data, tmp_path):
    MoAClassifier(tuple(reversed(data.moas))).save_pretrained(tmp_path / "classifier.safetensors")
    terms = ("roundness=0", *(f"{kind}_{what}=0" for kind in ("nucleus", "cell") for what in ("size", "count")))
    config = RewardConfig(classifier=tmp_path / "classifier.safetensors", terms=terms)  # none has a reference
    with pytest.raises(ValueError, match="the classifier knows the MoAs"):
        build_evaluator(data, build_rewards(config, "cpu", data))
    build_evaluator(data, build_rewards(replace(config, terms=(*terms, "moa=0")), "cpu", data))  # nothing asks it
