import pytest
import torch

from rewards.segmentation import augment
from rewards.segmentation.targets import unit_flows


@pytest.fixture
def blobs():
    """Two images of two disks, one at the border, and their labels; H differs from W."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    labels = torch.zeros(2, 48, 64, dtype=torch.int32)
    labels[:, (y - 24) ** 2 + (x - 30) ** 2 < 100] = 1
    labels[:, (y - 40) ** 2 + (x - 60) ** 2 < 120] = 2
    return (labels > 0).float().unsqueeze(1) * torch.tensor([0.5, 1.0]).reshape(2, 1, 1, 1), labels


@pytest.mark.parametrize("seed", range(8))
def test_flows_follow_the_symmetry_of_the_image(blobs, seed):
    """Flows of the transformed labels equal the transformed flows; the seeds cover all eight symmetries."""
    image, labels = blobs
    turned, flows, mask = augment.random_symmetry(
        image, unit_flows(labels), labels.float(), torch.Generator().manual_seed(seed)
    )
    assert torch.equal((turned[:, 0] > 0), mask > 0)
    torch.testing.assert_close(flows, unit_flows(mask.int()), atol=1e-5, rtol=0)


def test_shifted_objects_are_those_off_the_border(blobs):
    image, labels = blobs
    moved, moved_labels = augment.shift_objects(image, labels, 6, torch.Generator().manual_seed(0))
    assert set(moved_labels.unique().tolist()) == {0, 1}
    assert (moved_labels == 1).sum((1, 2)).tolist() == pytest.approx([305, 305], abs=25)
    assert (moved[:, 0] > 0.4)[moved_labels == 0].float().mean() < 0.02
    assert not torch.equal(moved_labels[0], moved_labels[1])  # each its own way


def test_crowding_adds_objects_behind_with_new_labels(blobs):
    image, labels = blobs
    others, other_labels = torch.full_like(image, 0.2), torch.zeros_like(labels)
    other_labels[0, 5:45, 5:40] = 1
    crowded, crowded_labels = augment.crowd_cells(image, labels, others, other_labels)
    assert torch.equal(crowded_labels[labels > 0], labels[labels > 0])
    assert set(crowded_labels[0].unique().tolist()) == {0, 1, 2, 3} and torch.equal(crowded_labels[1], labels[1])
    assert crowded[0, 0, 8, 8] == pytest.approx(0.2, abs=1e-3) and crowded[0, 0, 24, 30] == pytest.approx(0.5, abs=1e-3)
    assert torch.equal(augment.crowd_nuclei(image, labels, others, other_labels)[1], labels)  # too much overlap
    other_labels[0, 12:] = 0
    assert int(augment.crowd_nuclei(image, labels, others, other_labels)[1].max()) == 3


def test_zoom_enlarges_image_and_labels_alike(blobs):
    image, labels = blobs
    zoomed, zoomed_labels = augment.zoom(image.repeat(8, 1, 1, 1), labels.repeat(8, 1, 1), 2.0, torch.Generator())
    assert zoomed_labels.dtype == torch.int32 and zoomed.shape == (16, 1, 48, 64)
    assert ((zoomed[:, 0] > 0.2) == (zoomed_labels > 0)).float().mean() > 0.98
    assert (zoomed_labels == 1).sum((1, 2)).float().mean() > 1.3 * (labels[0] == 1).sum()


def test_blur_keeps_the_sum_and_widens_by_sigma():
    x = torch.zeros(2, 1, 65, 65)
    x[:, :, 32, 32] = 1
    y = augment.blur(x, torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1))
    torch.testing.assert_close(y.sum((1, 2, 3)), torch.ones(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(y[0], x[0])
    variance = (y[1, 0].sum(0) * (torch.arange(65.0) - 32) ** 2).sum()
    assert variance.item() == pytest.approx(9, rel=0.03)


def test_degraded_images_lie_in_0_to_1_and_depend_on_rng_alone(blobs):
    image = blobs[0].repeat(16, 1, 1, 1)
    x = augment.degrade(image, torch.Generator().manual_seed(0))
    assert x.min() >= 0 and x.max() <= 1 and x.isfinite().all()
    full = x.amax((1, 2, 3)) == 1
    assert 0.5 < full.float().mean() < 1  # most are stretched, some have less contrast
    assert torch.equal(x, augment.degrade(image, torch.Generator().manual_seed(0)))
    assert not torch.equal(x, augment.degrade(image, torch.Generator().manual_seed(1)))
    assert augment.empty_images_like(image, torch.Generator().manual_seed(0)).isfinite().all()
