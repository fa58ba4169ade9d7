import copy
from dataclasses import replace
from pathlib import Path

import pytest

from algorithms.evaluation.pages.merged_runs import check_same_evaluation, differing, merge_runs, run_names
from algorithms.evaluation.stored_run import BestOfNFile, StoredRun
from cellenv.json_io import dump_json, validate
from tests.algorithms.evaluation.evaluation_toys import best_of_n, cells, evaluation, interval, log


def stored(total: float, **config) -> StoredRun:
    found = evaluation()
    found["rows"]["rl"]["total"], found["config"] = interval(total, total - 0.1, total + 0.1), {"seed": 0, **config}
    selection = validate(dump_json(best_of_n()), BestOfNFile, Path("best_of_n.json"))
    return StoredRun(evaluation=found, cells=cells(), logs={"rl": log(total)}, best_of_n=selection)


def test_a_row_for_each_run_beside_one_base_and_real():
    merged = merge_runs({"nft": stored(1.2, kl=0.4), "grpo": stored(1.5, kl=0.1)})
    found = merged.evaluation
    assert list(found["rows"]) == ["base", "nft", "grpo", "real"]
    assert [found["rows"][row]["total"]["mean"] for row in found["rows"]] == [1.0, 1.2, 1.5, 1.3]
    assert set(found["gap"]) == {"nft-base", "grpo-base"} == {*found["paired"]} - {"real-base"}
    assert found["config"] == {"kl": "nft: 0.4; grpo: 0.1"}
    assert merged.logs == {"nft": log(1.2), "grpo": log(1.5)}
    assert list(merged.best_of_n.curve.rows) == ["base", "nft", "grpo"]
    assert list(merged.cells.values) == list(merged.cells.measures) == list(found["rows"])
    assert all(list(c.pictures) == ["control", "base", "nft", "grpo", "real"] for c in merged.cells.shown)
    assert len(merged.cells.shown) == len(cells().shown)


def test_only_contexts_that_all_show_are_shown_and_others_contexts_not_at_all():
    one, other = stored(1.2), stored(1.5)
    fewer = replace(other, cells=replace(other.cells, shown=other.cells.shown[2:4]))
    shown = merge_runs({"nft": one, "grpo": fewer}).cells.shown
    assert [c.context for c in shown] == sorted(
        (c.context for c in fewer.cells.shown), key=[c.context for c in one.cells.shown].index
    )
    elsewhere = replace(other, cells=replace(other.cells, seeds=tuple(range(100, 124))))
    assert list(merge_runs({"nft": one, "grpo": elsewhere}).cells.values) == ["base", "nft", "real"]
    assert merge_runs({"nft": replace(one, cells=None), "grpo": other}).cells is None


def test_a_run_with_several_trained_rows_keeps_their_names():
    run = stored(1.2)
    run.evaluation["rows"]["late"], run.evaluation["paired"]["late-base"] = (
        run.evaluation["rows"]["rl"],
        run.evaluation["paired"]["rl-base"],
    )
    run.evaluation["gap"]["late-base"] = run.evaluation["gap"]["rl-base"]
    run = replace(run, cells=None)
    assert list(merge_runs({"a": run, "b": stored(1.5)}).evaluation["rows"]) == ["base", "a rl", "a late", "b", "real"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows["real"].update(n_contexts=16), "nft and grpo .*n_contexts of its row real is 32 and 16"),
        (lambda rows: rows["base"].update(total=interval(0.9, 0.8, 1)), r"total of its row base is 1\.0 and 0\.9"),
        (lambda rows: rows["base"].pop("moa"), "only one has moa"),
        (lambda rows: rows.pop("real"), "need a row 'real'"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    other = stored(1.5)
    change(other.evaluation["rows"])
    with pytest.raises(ValueError, match=f"{message}.*evaluate both with the same"):
        merge_runs({"nft": stored(1.2), "grpo": other})


def test_another_machine_is_no_other_evaluation():
    other = copy.deepcopy(evaluation())
    other["rows"]["real"]["frechet"] *= 1.0005
    check_same_evaluation(evaluation(), other, "a", "b")


def test_a_figure_that_one_does_not_have_is_no_difference():
    other = copy.deepcopy(evaluation())
    assert other["rows"]["real"]["diversity"] is None
    other["rows"]["real"]["diversity"] = 7.293
    check_same_evaluation(evaluation(), other, "a", "b")
    check_same_evaluation(other, evaluation(), "b", "a")


def test_a_run_needs_a_trained_row():
    other = stored(1.5)
    del other.evaluation["rows"]["rl"]
    with pytest.raises(
        ValueError, match="need a row of a trained generator in the evaluation of grpo; it has base, real"
    ):
        merge_runs({"nft": stored(1.2), "grpo": other})


def test_names_are_the_shortest_that_differ():
    assert run_names([Path("runs/nft"), Path("runs/grpo")]) == ["nft", "grpo"]
    assert run_names([Path("a/nft/seed1"), Path("a/grpo/seed1")]) == ["nft/seed1", "grpo/seed1"]
    assert run_names([Path("runs/base"), Path("runs/nft")]) == ["runs/base", "runs/nft"]
    assert run_names([Path("a/real"), Path("a/control"), Path("b/nft")]) == ["a/real", "a/control", "b/nft"]
    with pytest.raises(ValueError, match="need different runs"):
        run_names([Path("runs/nft"), Path("runs/nft")])


def test_settings_that_agree_are_left_out():
    assert differing({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3, "z": 4}}) == {"y": "a: 2; b: 3", "z": "a: –; b: 4"}
