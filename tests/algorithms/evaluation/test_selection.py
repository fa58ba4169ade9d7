"""Best-of-N on toy generators: curves, paired differences, tables, and how often an image is measured."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from algorithms.checkpoint import fingerprint
from algorithms.config import EvalConfig
from algorithms.evaluation import selection
from algorithms.evaluation.best_of_n import BestOfNConfig
from algorithms.evaluation.comparison import sampled_row
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.selection import compare_models, publish
from cellenv.generator import CellFlux
from tests.algorithms.evaluation.evaluation_toys import BrightnessEvaluator, generator

CONFIG = BestOfNConfig(most=8, tables=(1, 4, 8), batch_size=7, eval=EvalConfig(contexts=10))
CONTEXTS = CONFIG.eval.contexts


def compare(data, config=CONFIG):
    toy = BrightnessEvaluator(len(data.moas))
    models = {"base": generator(data, 0.0), "rl": generator(data, 0.1)}
    return compare_models(models, data, toy.evaluator, config), models, toy


def means(rows, name):
    return [at[name]["mean"] for at in rows]


def test_curves_equal_the_best_of_a_group(data):
    result, models, _ = compare(data)
    contexts, _, _ = held_out(data, CONTEXTS, CONFIG.seed)
    for name, model in models.items():
        group = sampled_row(model, contexts, CONFIG.most).all_images(CONTEXTS, 32)  # (n, G, C, H, W)
        bright, first = group.mean((2, 3, 4)), group[:, :, 0].mean((2, 3))
        for n in range(1, CONFIG.most + 1):
            score, chosen = bright[:, :n].max(1)
            at = result["curve"]["rows"][name][n - 1]
            assert at["total"]["mean"] == pytest.approx(score.mean().item(), abs=1e-6)
            judged = first.gather(1, chosen[:, None]).mean().item()
            assert at["judge_bright"]["mean"] == pytest.approx(judged, abs=1e-6)


def test_reward_rises_with_n_and_differences_are_taken_at_the_same_n(data):
    result, _, _ = compare(data)
    curve = result["curve"]
    assert curve["n"] == list(range(1, 9)) and list(curve["rows"]) == ["base", "rl"]
    for row in curve["rows"].values():
        total = means(row, "total")
        assert all(a <= b for a, b in pairwise(total)) and total[-1] > total[0]
    for n, pair in enumerate(curve["paired"]["rl-base"]):
        base, rl = (means(curve["rows"][name], "total")[n] for name in ("base", "rl"))
        assert pair["total"]["mean"] == pytest.approx(rl - base, abs=1e-7)
        assert 0 < pair["total"]["ci"][0] <= pair["total"]["mean"]
        width = curve["rows"]["rl"][n]["total"]["ci"][1] - curve["rows"]["rl"][n]["total"]["ci"][0]
        assert pair["total"]["ci"][1] - pair["total"]["ci"][0] < width / 2  # contexts and noise are shared


def test_tables_are_evaluations_of_the_selected_images(data):
    result, _, _ = compare(data)
    assert list(result["best_of"]) == ["1", "4", "8"]
    for n, evaluation in result["best_of"].items():
        assert list(evaluation["rows"]) == ["base", "rl", "real"] and evaluation["config"]["best_of"] == int(n)
        for name in ("base", "rl"):
            at = result["curve"]["rows"][name][int(n) - 1]
            for figure in ("total", "judge_bright", "dark"):  # dark depends on the context too
                assert evaluation["rows"][name][figure]["mean"] == pytest.approx(at[figure]["mean"], abs=1e-6)
        assert evaluation["paired"]["rl-base"]["total"]["ci"][0] > 0 and evaluation["rows"]["base"]["frechet"] > 0


def test_weights_are_told_apart_as_in_an_evaluation_also_after_they_were_saved(data, save_base, tmp_path):
    model = CellFlux.from_pretrained(save_base())
    model.save_pretrained(tmp_path / "again")
    assert fingerprint(CellFlux.from_pretrained(tmp_path / "again")) == fingerprint(model)
    result, models, _ = compare(data)
    assert result["weights"] == {name: fingerprint(model) for name, model in models.items()}
    assert result["weights"]["base"] != result["weights"]["rl"]


def test_another_scorer_selects_other_images(data):
    result, _, _ = compare(data, replace(CONFIG, scorer="dark"))
    row = result["curve"]["rows"]["base"]
    assert means(row, "dark")[-1] > means(row, "dark")[0] and means(row, "total")[-1] < means(row, "total")[0]
    with pytest.raises(ValueError, match="need a scorer of total, bright, dark; got 'beauty'"):
        compare(data, replace(CONFIG, scorer="beauty"))


def test_only_winners_are_judged(data):
    _, _, toy = compare(data, replace(CONFIG, tables=(1,)))
    judged, scored = (sum(map(len, images)) for images in (toy.judged, [images for images, _ in toy.scored]))
    drawn = 2 * CONTEXTS * CONFIG.most
    winners = judged - CONTEXTS  # the table measures real images too
    assert scored >= drawn and 2 * CONTEXTS < winners < 0.6 * drawn


def test_publish_writes_a_plot_and_the_numbers_and_prints_the_tables(data, tmp_path, capsys):
    config = replace(CONFIG, model=("rl=folder",), output_dir=tmp_path / "out")
    publish(compare(data, config)[0], config)
    assert (tmp_path / "out" / "best_of_n.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert len(result["curve"]["rows"]["rl"]) == 8
    assert result["best_of"]["4"]["config"]["eval.contexts"] == 10 and result["best_of"]["4"]["config"]["most"] == 8
    printed = capsys.readouterr().out
    assert all(f"Best of {n} by total, 10 held-out contexts" in printed for n in (1, 4, 8)) and "rl − base" in printed


def test_what_is_undefined_is_left_out_of_the_plot(data):
    result, _, _ = compare(data)
    nothing = {"mean": None, "ci": [None, None]}
    result["curve"]["rows"]["rl"][2]["judge_bright"] = nothing
    next(iter(result["best_of"].values()))["rows"]["real"]["judge_bright"] = nothing
    assert selection.plot(result, CONFIG).startswith(b"\x89PNG")


def test_the_plot_has_a_panel_for_the_scorer_and_for_each_judge(data, tmp_path, monkeypatch):
    result, _, _ = compare(data)
    figures = []
    monkeypatch.setattr(selection, "encode_png", lambda figure, axes: figures.append(figure) or b"")
    selection.plot(result, CONFIG)
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    assert titles == ["total, which selects", "bright, held-out judge"]
