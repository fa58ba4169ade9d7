import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms.evaluation.distances import frechet_distance, standardise
from algorithms.evaluation.measurement import Row, measure_references, measure_row
from algorithms.evaluation.metrics import EvaluationOptions, evaluate
from algorithms.evaluation.stored_run import save_evaluation
from tests.algorithms.evaluation.metrics_toys import TOY, G, N, brightness, toy_contexts, toy_images, toy_score


def toy_evaluation(**changed) -> dict:
    rows = {
        "base": toy_images(0.2),
        "rl": toy_images(0.4),  # the same noise
        "real": toy_images(0.5, size=1, seed=1),
    }
    given = {"rows": rows, "reference": REFERENCE, "evaluator": TOY, "options": EvaluationOptions()} | changed
    evaluator, contexts, reference = given["evaluator"], toy_contexts(), given["reference"]
    values = {name: measure_row(Row.of(images), contexts, evaluator) for name, images in given["rows"].items()}
    real = measure_references(Row.of(reference.unsqueeze(1)), len(reference), evaluator)
    return evaluate(values, real, contexts["moa"], evaluator, given["options"])


REFERENCE = toy_images(0.5, size=1, seed=2).squeeze(1)


def test_form_is_that_of_the_design():
    evaluation = toy_evaluation(options=EvaluationOptions(config={"preset": "default"}))
    assert evaluation["config"] == {"preset": "default"}
    described = {
        "name": "bright",
        "label": "bright",
        "weight": 2.0,
        "unit": TOY.specs[0].unit,
        "measure": None,
        "judge": True,
        "conditioned_on": "nothing",
    }
    assert evaluation["rewards"] == [described] and evaluation["baselines"] == {}
    assert set(evaluation["gap"]) == {"rl-base"} and set(evaluation["gap"]["rl-base"]["own"]) == {
        "bright",
        "judge_bright",
    }
    assert set(evaluation["rows"]) == {"base", "rl", "real"} and set(evaluation["paired"]) == {"rl-base", "real-base"}
    for figures in (*evaluation["rows"].values(), *evaluation["paired"].values()):
        for name in ("total", "bright", "judge_bright"):
            assert set(figures[name]) == {"mean", "ci"} and len(figures[name]["ci"]) == 2
        numbers = ("frechet", "kernel", "moa_accuracy", "n_contexts", "w1_size", "w1_mean")
        assert all(isinstance(figures[name], float | int) for name in numbers)
    assert evaluation["rows"]["rl"]["n_contexts"] == N
    assert evaluation["rows"]["base"]["diversity"] > 0
    json.dumps(evaluation, allow_nan=False)


def test_paired_difference_has_the_mean_of_the_rows_and_a_narrow_interval():
    evaluation = toy_evaluation()
    gain, rows = evaluation["paired"]["rl-base"], evaluation["rows"]
    assert gain["total"]["mean"] == pytest.approx(rows["rl"]["total"]["mean"] - rows["base"]["total"]["mean"])
    width = {name: row["total"]["ci"][1] - row["total"]["ci"][0] for name, row in rows.items()}
    assert gain["total"]["ci"][0] > 0 and gain["total"]["ci"][1] - gain["total"]["ci"][0] < width["base"] / 4
    assert gain["frechet"] == pytest.approx(rows["rl"]["frechet"] - rows["base"]["frechet"])
    assert gain["frechet"] < 0 and gain["w1_size"] < 0


def test_the_gap_is_that_to_real_images_and_its_share_that_of_the_gain():
    evaluation = toy_evaluation()
    gain, gap = (evaluation["paired"][pair]["bright"]["mean"] for pair in ("rl-base", "real-base"))
    closed = evaluation["gap"]["rl-base"]
    assert closed["share"]["mean"] == pytest.approx(gain / gap) and 0.5 < gain / gap < 0.9
    assert closed["share"] == closed["own"]["bright"] != closed["own"]["judge_bright"]
    low, high = closed["share"]["ci"]
    assert low < closed["share"]["mean"] < high
    assert "gap" not in toy_evaluation(rows={"base": toy_images(0.2), "rl": toy_images(0.4)})


def test_the_judges_margin_has_the_interval_of_paired_differences():
    gain = toy_evaluation()["paired"]["rl-base"]
    margin = gain["judge_margin_bright"]
    assert margin["mean"] == pytest.approx(gain["judge_bright"]["mean"] - 0.6 * gain["bright"]["mean"])
    assert margin["ci"][0] < margin["mean"] < margin["ci"][1]


def test_a_row_may_have_a_further_baseline():
    rows = {
        "base": toy_images(0.2),
        "base-8": toy_images(0.3),
        "rl-8": toy_images(0.4),
        "real": toy_images(0.5, seed=1),
    }
    evaluation = toy_evaluation(rows=rows, options=EvaluationOptions(baselines={"rl-8": "base-8"}))
    assert set(evaluation["paired"]) == {"base-8-base", "rl-8-base", "rl-8-base-8", "real-base"}
    assert set(evaluation["gap"]) == {"base-8-base", "rl-8-base", "rl-8-base-8"}
    means = {name: row["total"]["mean"] for name, row in evaluation["rows"].items()}
    step = means["rl-8"] - means["base-8"]
    assert evaluation["paired"]["rl-8-base-8"]["total"]["mean"] == pytest.approx(step)
    share = evaluation["gap"]["rl-8-base-8"]["share"]["mean"]
    assert share == pytest.approx(step / (means["real"] - means["base-8"]), rel=1e-6)
    assert evaluation["baselines"] == {"rl-8": "base-8"}


def test_two_comparisons_of_one_name_are_refused():
    rows = {name: toy_images(0.2) for name in ("base", "8-base", "rl", "rl-8", "real")}
    with pytest.raises(ValueError, match=r"names of rows .* got base, 8-base, rl, rl-8, real"):
        toy_evaluation(rows=rows, options=EvaluationOptions(baselines={"rl": "8-base"}))  # rl-8 - base, rl - 8-base


def test_a_row_with_more_samples_is_compared_on_the_same_number_of_images():
    images, real = toy_images(0.3), brightness(REFERENCE)
    row = toy_evaluation(rows={"base": images})["rows"]["base"]
    per_draw = [
        frechet_distance(standardise(brightness(images[:, g]), real), standardise(real, real)) for g in range(G)
    ]
    assert row["frechet"] == pytest.approx(np.mean(per_draw))
    pooled = frechet_distance(standardise(brightness(images.flatten(0, 1)), real), standardise(real, real))
    assert row["frechet"] != pytest.approx(pooled, rel=1e-3)


def test_distances_and_diversity_do_not_depend_on_the_scale_of_the_features():
    larger = replace(TOY, classify=lambda images: (TOY.classify(images)[0], 50 + 20 * brightness(images)))
    rows, scaled = (toy_evaluation(evaluator=evaluator)["rows"]["rl"] for evaluator in (TOY, larger))
    for name in ("frechet", "kernel", "diversity"):
        assert scaled[name] == pytest.approx(rows[name], rel=1e-4)


def test_the_diversity_of_real_images_is_that_of_two_of_one_compound():
    images = toy_images(0.5, size=1, seed=1)
    own, other = (standardise(brightness(x), brightness(REFERENCE)) for x in (images.squeeze(1), REFERENCE))
    distance = (own - other).norm(dim=1).mean().item()
    assert toy_evaluation()["rows"]["real"]["diversity"] == pytest.approx(distance, rel=1e-5)
    alone = toy_evaluation(rows={"base": images, "real": images})["rows"]
    assert alone["base"]["diversity"] is None and alone["real"]["diversity"] == pytest.approx(distance, rel=1e-5)


def test_two_diversities_that_are_not_alike_have_no_difference():
    evaluation = toy_evaluation()
    base, rl, real = (evaluation["rows"][row]["diversity"] for row in ("base", "rl", "real"))
    assert base > 0 and real > 0 and evaluation["paired"]["real-base"]["diversity"] is None
    assert evaluation["paired"]["rl-base"]["diversity"] == pytest.approx(rl - base)


def test_further_features_get_distances_of_their_own():
    evaluator = replace(TOY, features={"red": lambda images: brightness(images)[:, :2]})
    images = toy_images(0.3, size=1)
    row = toy_evaluation(rows={"base": images}, evaluator=evaluator)["rows"]["base"]
    red, real = brightness(images.squeeze(1))[:, :2], brightness(REFERENCE)[:, :2]
    assert row["frechet_red"] == pytest.approx(frechet_distance(standardise(red, real), standardise(real, real)))
    assert row["frechet"] == toy_evaluation(rows={"base": images})["rows"]["base"]["frechet"] != row["frechet_red"]


def test_identical_rows_do_not_differ_and_the_reference_is_at_distance_zero_from_itself():
    evaluation = toy_evaluation(rows=dict.fromkeys(("base", "rl"), REFERENCE.unsqueeze(1)))
    assert evaluation["paired"]["rl-base"]["total"] == {"mean": 0, "ci": [0, 0]}
    assert evaluation["rows"]["rl"]["frechet"] == pytest.approx(0, abs=1e-9)
    assert evaluation["rows"]["rl"]["w1_size"] == 0


def test_undefined_measures_and_rewards_become_no_number():
    black = -torch.ones(N, G, 3, 4, 4)
    evaluator = replace(TOY, score=lambda i, c: {k: v.where(v > -0.99, torch.nan) for k, v in toy_score(i, c).items()})
    row = toy_evaluation(rows={"base": black}, evaluator=evaluator)["rows"]["base"]
    assert row["bright"] == {"mean": None, "ci": [None, None]}
    assert row["w1_size"] is None and row["undefined"] == 1
    half = black.clone()
    half[:, ::2] = 0.5
    row = toy_evaluation(rows={"base": half}, evaluator=evaluator)["rows"]["base"]
    assert row["bright"]["mean"] == pytest.approx(0.5) and row["undefined"] == 0.5
    assert row["w1_size"] is not None


def test_the_same_seed_gives_the_same_intervals_and_no_global_stream_is_touched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (toy_evaluation(options=EvaluationOptions(seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert first == again != other


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="need the rows base to compare with; got rl"):
        toy_evaluation(rows={"rl": toy_images(0.1)})
    with pytest.raises(ValueError, match="need the rows base-8 to compare with; got base, rl, real"):
        toy_evaluation(options=EvaluationOptions(baselines={"rl": "base-8"}))
    with pytest.raises(ValueError, match="one reference image a context, 30; got 7"):
        toy_evaluation(reference=REFERENCE[:7])
    with pytest.raises(ValueError, match="sigma for every measure; none came for size"):
        toy_evaluation(evaluator=replace(TOY, sigma={}))


def test_saved_file_is_the_evaluation(tmp_path):
    evaluation = toy_evaluation()
    save_evaluation(evaluation, tmp_path / "evaluation.json")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    with pytest.raises(ValueError):
        save_evaluation({"rows": float("nan")}, tmp_path / "evaluation.json")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation


def test_an_infinite_reward_is_undefined_and_the_evaluation_is_saved(tmp_path):
    def score(images, contexts):
        found = toy_score(images, contexts)
        return {**found, "bright": found["bright"].where(found["bright"] > 0.1, -torch.inf)}

    evaluator = replace(TOY, score=score)
    metrics = measure_row(Row.of(toy_images(0.2)), toy_contexts(), evaluator)["interval", "bright"]
    assert metrics.isnan().any() and not metrics.isinf().any()
    rows = {"base": toy_images(0.2), "rl": toy_images(0.4)}
    save_evaluation(toy_evaluation(rows=rows, evaluator=evaluator), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["rows"]["rl"]["bright"]["mean"] > 0.1
