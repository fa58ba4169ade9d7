import json
import math
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from cellenv.weights_io import digest
from rewards.reference import Reference
from rewards.segmentation.embedded import EmbeddedSegmenter

MOAS = ("Actin disruptors", "mevinolin/lovastatin")


def made(**about):
    """Known numbers: 4 and 3 images; one roundness is undefined."""
    measures = {
        "roundness": torch.tensor([0.8, 0.9, 1.0, torch.nan, 0.5, 0.6, 0.7]),
        "nucleus_area_max": torch.tensor([400.0, 400, 400, 400, 100, 300, 500]),
        "nucleus_count": torch.tensor([1.0, 1, 1, 1, 1, 2, 3]),
    }
    return Reference.fit(measures, torch.tensor([0, 0, 0, 0, 1, 1, 1]), MOAS, min_cells=3, about=about)


def test_statistics_per_moa_leave_undefined_values_out():
    reference = made()
    assert reference.populations == MOAS
    assert reference.count.tolist() == [4, 3]
    torch.testing.assert_close(reference.mean["roundness"], torch.tensor([0.9, 0.6]))
    torch.testing.assert_close(reference.std["roundness"], torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(reference.std["nucleus_area_max"], torch.tensor([0.0, 200.0]))


def test_zscore_uses_the_moa_of_each_image():
    z = made().zscore("roundness", torch.tensor([0.9, 1.1, 0.9, torch.nan]), torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(z, torch.tensor([0.0, 2.0, 3.0, torch.nan]), equal_nan=True, atol=1e-5, rtol=1e-5)


def test_statistics_by_compound_are_put_in_the_order_of_other_data():
    reference = replace(made(), by="compound", populations=("a", "b"))
    arranged = reference.arrange(("b", "new", "a"))
    assert arranged.populations == ("b", "new", "a") and arranged.count.tolist() == [3, 0, 4]
    z = arranged.zscore("roundness", torch.full((3,), 0.9), torch.arange(3))
    torch.testing.assert_close(z, torch.tensor([3.0, torch.nan, 0.0]), equal_nan=True, atol=1e-5, rtol=1e-5)
    contexts = TensorDict({"perturbation": torch.tensor([2, 0])}, [2])
    assert arranged.population_of(contexts).tolist() == [2, 0]


def test_controls_are_one_population_that_needs_no_id():
    measures = {"roundness": torch.tensor([0.8, 0.9, 1.0])}
    reference = Reference.fit(measures, torch.zeros(3, dtype=torch.int64), ["controls"], by="controls", min_cells=2)
    torch.testing.assert_close(reference.zscore("roundness", torch.tensor([1.1, 0.8])), torch.tensor([2.0, -1.0]))
    assert reference.population_of(TensorDict({}, [4])).tolist() == [0] * 4
    with pytest.raises(ValueError, match="need the id of the MoA of each image"):
        made().zscore("roundness", torch.zeros(2))


@pytest.mark.parametrize("by", ["moa", "compound", "controls"])
def test_what_the_statistics_are_by_is_stored(tmp_path, by):
    replace(made(), by=by).save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json").by == by


def test_sigma_has_a_floor():
    reference = made()
    area = reference.zscore("nucleus_area_max", torch.tensor([408.0, 500.0]), torch.tensor([0, 1]))
    torch.testing.assert_close(area, torch.tensor([1.0, 1.0]))  # 2 % of 400; 200 as it is
    count = reference.zscore("nucleus_count", torch.tensor([2.0, 3.0]), torch.tensor([0, 1]))
    torch.testing.assert_close(count, torch.tensor([math.sqrt(12), 1 / math.sqrt(1 + 1 / 12)]))


def test_few_cells_are_refused_by_name():
    measures = {"roundness": torch.tensor([1.0, 1, 1, torch.nan, 1])}
    moa = torch.tensor([0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"roundness: need 3 .* Actin disruptors \(2\), mevinolin/lovastatin \(2\)"):
        Reference.fit(measures, moa, MOAS, min_cells=3)
    with pytest.raises(ValueError, match="lovastatin \\(0\\)"):
        Reference.fit(measures, torch.zeros(5, dtype=torch.int64), MOAS, min_cells=2)
    with pytest.raises(ValueError, match="min_cells >= 2"):
        Reference.fit(measures, moa, MOAS, min_cells=1)
    assert Reference.fit(measures, moa, MOAS, min_cells=2).count.tolist() == [2, 3]


def test_cells_without_known_mechanisms_are_refused_by_the_column_that_is_missing():
    with pytest.raises(ValueError, match=r"column.*ANNOT"):
        Reference.fit({"roundness": torch.rand(4)}, torch.full((4,), -1), ())


def test_saved_is_loaded(tmp_path):
    reference = made(command="here")
    reference.save(tmp_path / "deep/reference.json")
    again = Reference.load(tmp_path / "deep/reference.json")
    assert (again.populations, again.about) == (MOAS, {"command": "here"})
    value, moa = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    for name in reference.mean:
        assert torch.equal(again.zscore(name, value, moa), reference.zscore(name, value, moa))


def test_unknown_measures_and_ids_are_refused():
    with pytest.raises(ValueError, match="no measure 'area'; it has roundness"):
        made().zscore("area", torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    for moa in (-1, 2):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            made().zscore("roundness", torch.zeros(1), torch.tensor([moa]))


def test_missing_and_damaged_files_are_named(tmp_path):
    file = tmp_path / "reference.json"
    with pytest.raises(FileNotFoundError, match=r"reference\.json; `cellfluxrl fit reference`"):
        Reference.load(file)
    made().save(file)
    text = file.read_text()
    for broken in (text[:-20], "[]", '{"moas": []}', text.replace("{", '{"more": 1, ', 1)):
        file.write_text(broken)
        with pytest.raises(ValueError, match=r"reference\.json: "):
            Reference.load(file)
    content = json.loads(text)
    content["measures"]["roundness"]["std"] = [0.1]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="need 2 numbers"):
        Reference.load(file)


def test_a_deviation_of_zero_is_refused_where_it_would_divide(tmp_path):
    file = tmp_path / "reference.json"
    made().save(file)
    content = json.loads(file.read_text())
    content["measures"]["nucleus_count"] = {"mean": [0.0, 0.0], "std": [0.0, 0.0]}  # its sigma has a floor
    file.write_text(json.dumps(content))
    assert (Reference.load(file).sigma("nucleus_count") > 0).all()
    content["measures"]["roundness"] = {"mean": [0.0, 0.8], "std": [0.0, 0.1]}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"reference\.json: roundness .*divide by 0"):
        Reference.load(file)


def test_shipped_statistics_were_seen_through_the_shipped_segmenter():
    assert Reference.load().about["segmenter"] == digest(EmbeddedSegmenter.shipped)
