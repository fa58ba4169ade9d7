import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from algorithms.evaluation.evaluated_cells import (
    WEBP,
    CellPicture,
    EvaluatedCells,
    choose_contexts,
    gain,
    mean_gain,
    rounded,
)
from tests.algorithms.evaluation.evaluation_toys import cells


def test_what_is_saved_is_read(tmp_path):
    found = cells()
    found.save(tmp_path / "new" / "cells.json")
    assert EvaluatedCells.load(tmp_path / "new" / "cells.json") == found


def test_undefined_values_are_none_in_the_file_and_nan_in_an_array():
    assert rounded(np.array([[1.234567, np.nan], [np.inf, -0.5]])) == [[1.2346, None], [None, -0.5]]
    found = cells()
    found.values["rl"]["moa"][0][0] = None
    assert np.isnan(found.of("rl", "moa")[0, 0]) and np.isfinite(found.of("rl", "moa")[1:]).all()


def test_measures_are_not_rewards():
    found = cells()
    assert found.of("rl", "measure/roundness").tolist() == found.measures["rl"]["roundness"]
    assert found.of("rl", "roundness").tolist() == found.values["rl"]["roundness"]


@pytest.mark.parametrize("image", ["https://example.org/a.webp", "data:text/html;base64,aaaa", f"{WEBP}a' onload='x"])
def test_a_picture_that_is_none_is_refused_with_its_file(image, tmp_path):
    content = asdict(cells())
    content["shown"][0]["pictures"]["base"]["image"] = image
    (tmp_path / "cells.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"cells\.json: .*need an image as data:image/webp"):
        EvaluatedCells.load(tmp_path / "cells.json")


def test_a_path_that_is_none_is_refused():
    with pytest.raises(ValueError, match="need SVG paths"):
        CellPicture(image=f"{WEBP}aaaa", nuclei='M0 0"/><script>')


def test_every_context_needs_its_values():
    found = cells(n=12)
    for wrong in ({"seeds": found.seeds[1:]}, {"compounds": found.compounds * 2}, {"classes": found.classes[:-1]}):
        with pytest.raises(ValueError, match="for each of 1"):
            replace(found, **wrong)
    with pytest.raises(ValueError, match="shown ones too"):
        replace(found, shown=(replace(found.shown[0], context=12),))


def test_largest_gains_and_losses_are_chosen_and_random_ones_beside_them():
    classes = ["a"] * 20 + ["b"] * 20
    gains = np.concatenate([np.arange(20), -np.arange(20)]).astype(float)
    chosen = choose_contexts(gains, classes, ["a", "b", "absent"], columns=4, seed=0)
    groups = {group: [i for i, found in chosen.items() if group in found] for group in ("largest gain", "random")}
    assert len(groups["random"]) == 6 and sum(i < 20 for i in groups["random"]) == 3
    left = [i for i in range(20) if i not in groups["random"]]
    assert groups["largest gain"] == left[:-4:-1]  # of "b" none gained
    assert sorted(i for i, found in chosen.items() if "largest loss" in found) == [36, 37, 38, 39]


def test_random_contexts_do_not_depend_on_the_gain():
    rng, classes = np.random.default_rng(0), ["a", "b"] * 15
    chosen = [choose_contexts(rng.normal(size=30), classes, ["a", "b"], columns=4, seed=3) for _ in range(2)]
    random = [{i for i, groups in found.items() if "random" in groups} for found in chosen]
    assert random[0] == random[1] and chosen[0] != chosen[1]
    assert random[0] != {*choose_contexts(None, classes, ["a", "b"], columns=4, seed=4)}


def test_many_columns_leave_one_context_of_a_kind_and_one_context_is_random():
    classes = ["a", *"bbbbb"]
    chosen = choose_contexts(np.arange(6.0), classes, ["a", "b"], columns=90, seed=0)
    assert chosen[0] == ["random"] and len(chosen) == 3


def test_a_context_without_a_gain_is_neither_gain_nor_loss():
    chosen = choose_contexts(np.full(8, np.nan), ["a"] * 8, ["a"], columns=4, seed=0)
    assert {group for groups in chosen.values() for group in groups} == {"random"}


def test_gain_is_of_the_first_sample_and_mean_gain_of_all():
    values = {"base": np.array([[1.0, 5.0]]), "rl": np.array([[2.0, 9.0]])}
    assert gain(values, "rl").tolist() == [1] and gain(values, None) is None
    found = replace(
        cells(n=1),
        shown=(),
        values={row: {"total": x.tolist()} for row, x in values.items()},
        measures={},
    )
    assert mean_gain(found, "rl", "base").tolist() == [2.5]
