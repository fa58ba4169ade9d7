from math import pi

import numpy as np
import pytest
import torch
from skimage.measure import label as connected
from skimage.measure import regionprops

from rewards.measures import MEASURES, measure, objects
from rewards.segmentation.protocol import Masks


def disk(size, cy, cx, r):
    y, x = np.mgrid[:size, :size]
    return (y - cy) ** 2 + (x - cx) ** 2 <= r**2


def of_nuclei(labels):
    """Measures of nuclei without cells."""
    return measure(Masks(labels, torch.zeros_like(labels)))


@pytest.fixture
def blobs():
    """Random label images, B equal to H equal to W, one of them empty, one full."""
    rng = np.random.default_rng(0)
    coarse = rng.random((24, 6, 6)) < 0.45
    labels = [connected(np.kron(grid, np.ones((4, 4))) > 0, connectivity=1) for grid in coarse]
    labels[3], labels[7] = np.zeros((24, 24)), np.ones((24, 24))
    return torch.as_tensor(np.stack(labels), dtype=torch.int32)


def test_objects_equal_scikit_image(blobs):
    table = objects(blobs)
    props = [(b, prop) for b, labels in enumerate(blobs.numpy()) for prop in regionprops(labels)]
    assert len(props) > 60
    np.testing.assert_array_equal(table.image, [b for b, _ in props])
    np.testing.assert_array_equal(table.area, [prop.area for _, prop in props])
    np.testing.assert_allclose(table.perimeter, [prop.perimeter_crofton for _, prop in props], rtol=1e-12)
    on_border = [
        prop.bbox[0] == 0 or prop.bbox[1] == 0 or prop.bbox[2] == 24 or prop.bbox[3] == 24 for _, prop in props
    ]
    np.testing.assert_array_equal(table.on_border, on_border)


def test_measures_equal_scikit_image(blobs):
    """Against loops over regionprops, with cells that differ from the nuclei."""
    cells = blobs.roll(1, 0)
    values = measure(Masks(blobs, cells))
    assert tuple(values) == MEASURES
    for b, (nuclei, bodies) in enumerate(zip(blobs.numpy(), cells.numpy(), strict=True)):
        props, cell_props = regionprops(nuclei), regionprops(bodies)
        whole = [p for p in props if min(p.bbox) > 0 and max(p.bbox) < 24]
        expected = {
            "nucleus_count": len(props),
            "cell_count": len(cell_props),
            "nucleus_area_max": max((p.area for p in props), default=np.nan),
            "cell_area_max": max((p.area for p in cell_props), default=np.nan),
            "roundness": np.mean([4 * pi * p.area / p.perimeter_crofton**2 for p in whole]) if whole else np.nan,
            "containment": np.mean([(bodies[nuclei == p.label] > 0).mean() for p in props]) if props else np.nan,
        }
        for name, value in expected.items():
            assert values[name][b].item() == pytest.approx(value, rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize("r", [4, 6, 9, 13, 20])
def test_crofton_perimeter_is_unbiased_on_drawn_disks(r):
    rng = np.random.default_rng(r)
    drawn = torch.as_tensor(np.stack([disk(64, *(32 + rng.random(2)), r) for _ in range(200)]), dtype=torch.int32)
    assert objects(drawn).perimeter.mean() == pytest.approx(2 * pi * r, rel=0.01)
    assert of_nuclei(drawn)["roundness"].mean().item() == pytest.approx(1, abs=0.015)


def test_roundness_of_a_square_and_of_a_pair():
    """Crofton of an n x n square, by hand: 2n crossings in rows and in columns, 2(2n - 1) on each diagonal."""
    n = 10
    labels = torch.zeros(1, 40, 40, dtype=torch.int32)
    labels[0, 3 : 3 + n, 3 : 3 + n] = 1
    square = 4 * pi * n**2 / (pi / 8 * (4 * n + 4 * (2 * n - 1) / 2**0.5)) ** 2
    assert of_nuclei(labels)["roundness"].item() == pytest.approx(square, rel=1e-6)
    labels[0][torch.as_tensor(disk(40, 27, 27, 8))] = 2
    alone = of_nuclei((labels == 2).int())["roundness"].item()
    assert of_nuclei(labels)["roundness"].item() == pytest.approx((square + alone) / 2, rel=1e-6)


def test_border_nuclei_count_but_have_no_roundness():
    nuclei = torch.zeros(3, 32, 32, dtype=torch.int32)
    nuclei[0, :6, 10:20] = 1  # touches the top
    nuclei[1, 4:9, 26:32] = 1  # touches the right side
    values = measure(Masks(nuclei, torch.ones_like(nuclei)))
    assert values["nucleus_count"].tolist() == [1, 1, 0]
    assert values["roundness"].isnan().all()  # the count tells "all on the border" from "none"
    assert values["nucleus_area_max"][:2].tolist() == [60, 30] and values["nucleus_area_max"][2].isnan()
    assert values["containment"][:2].tolist() == [1, 1] and values["containment"][2].isnan()


def test_containment_is_the_mean_over_nuclei_not_over_pixels():
    nuclei = torch.zeros(2, 30, 30, dtype=torch.int32)
    nuclei[:, 2:4, 2:4] = 1  # 4 px, inside cell 2
    nuclei[:, 10:20, 10:20] = 2  # 100 px, a quarter inside
    cells = torch.zeros_like(nuclei)
    cells[0, :5, :5], cells[0, 10:15, 10:15] = 2, 1
    assert measure(Masks(nuclei, cells))["containment"].tolist() == pytest.approx([(1 + 0.25) / 2, 0.0])


def test_labels_may_skip_numbers():
    nuclei = torch.zeros(2, 20, 20, dtype=torch.int32)
    nuclei[0, 2:5, 2:5], nuclei[0, 8:12, 8:12], nuclei[1, 5:7, 5:7] = 2, 9, 4
    values = measure(Masks(nuclei, nuclei))
    assert values["nucleus_count"].tolist() == values["cell_count"].tolist() == [2, 1]
    assert values["nucleus_area_max"].tolist() == values["cell_area_max"].tolist() == [16, 4]
    assert values["containment"].tolist() == [1, 1]


def test_batch_equals_one_by_one(blobs):
    masks = Masks(blobs, blobs.flip(2))
    for name, values in measure(masks).items():
        alone = torch.cat([measure(Masks(blobs[b : b + 1], blobs.flip(2)[b : b + 1]))[name] for b in range(len(blobs))])
        torch.testing.assert_close(values, alone, rtol=0, atol=0, equal_nan=True)
        assert values.dtype == torch.float32


def test_an_empty_batch_has_no_numbers():
    nothing = torch.zeros(0, 16, 16, dtype=torch.int32)
    assert all(value.shape == (0,) for value in measure(Masks(nothing, nothing)).values())


def test_bad_labels_are_refused():
    labels = torch.zeros(1, 16, 16, dtype=torch.int32)
    with pytest.raises(ValueError, match="integer labels"):
        measure(Masks(labels.float(), labels))
    with pytest.raises(ValueError, match="0 \\(background\\) and above"):
        objects(labels - 1)
    with pytest.raises(ValueError, match=r"integer labels \(B, H, W\), got torch.bool"):
        measure(Masks(labels.bool(), labels))
    with pytest.raises(ValueError, match=r"to 2\^31 - 1; got 4294967297 to 4294967297"):
        objects(labels.long() + 2**32 + 1)
    with pytest.raises(ValueError, match="one shape"):
        measure(Masks(labels, torch.zeros(1, 16, 18, dtype=torch.int32)))
