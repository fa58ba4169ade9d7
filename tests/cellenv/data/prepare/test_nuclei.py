from itertools import pairwise

import numpy as np
import pytest

from cellenv.data.prepare import nuclei
from cellenv.data.prepare.nuclei import find_nuclei, measure_nuclei, overlap_of, split_axis
from tests.cellenv.data.prepare.plate_toys import disks, threshold


@pytest.mark.parametrize("length", [40, 96, 704, 1024, 1280, 2160])
@pytest.mark.parametrize("overlap", [64, 118])
def test_tiles_cover_an_axis_once(length, overlap):
    tiles = split_axis(length, overlap)
    sizes = {tile.stop - tile.start for tile in tiles}
    assert len(sizes) == 1 and sizes.pop() % 32 == 0
    assert tiles[0].first == 0 and tiles[-1].last >= length
    assert all(one.last == other.first for one, other in pairwise(tiles))
    assert all(tile.start <= tile.first < tile.last <= tile.stop for tile in tiles)


def test_every_nucleus_is_found_once_wherever_the_seams_are(monkeypatch):
    monkeypatch.setattr(nuclei, "LONGEST", 128)
    shape = (300, 420)
    centres = [(y + 0.37 * (x % 5), x) for y in range(15, 290, 31) for x in range(15, 410, 29)]
    found = find_nuclei(disks(shape, centres, 12), threshold, max_area=np.pi * 144)
    assert len(split_axis(300, 38)) * len(split_axis(420, 38)) == 15
    distance = np.hypot(*(found.centres[:, None] - np.array(centres)).transpose(2, 0, 1))
    assert len(found.centres) == len(centres) and (distance.min(0) < 0.5).all()
    assert np.abs(found.areas - np.pi * 144).max() < 20
    assert found.labels.shape == shape and sorted(np.unique(found.labels)) == list(range(len(centres) + 1))


@pytest.mark.parametrize("max_area", [2000.0, 6000.0, 12_000.0])
def test_the_largest_nucleus_is_whole_wherever_a_seam_cuts_it(max_area):
    overlap = overlap_of(max_area)
    seam = split_axis(1280, overlap)[0].last
    for offset in range(-70, 71, 7):
        dna = disks((160, 1280), [(80, seam + offset)], np.sqrt(max_area / np.pi))
        assert find_nuclei(dna, threshold, max_area).areas.tolist() == [dna.sum()]
    assert overlap < overlap_of(np.inf) == nuclei.LONGEST // 2


def test_measures_and_numbers():
    labels = np.zeros((10, 12), np.int32)
    labels[2:4, 1:5], labels[6:9, 7:10] = 7, 3
    found = measure_nuclei(labels)
    assert found.centres.tolist() == [[7.5, 8.5], [3.0, 3.0]] and found.areas.tolist() == [9, 8]
    assert found.labels[7, 8] == 1 and found.labels[2, 1] == 2 and found.boxes[1] == (slice(2, 4), slice(1, 5))


def test_an_empty_field_has_no_nuclei():
    found = find_nuclei(np.zeros((50, 60), np.float32), threshold, max_area=6000.0)
    assert found.centres.shape == (0, 2) and len(found.areas) == 0
