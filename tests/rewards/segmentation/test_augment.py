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


def test_masking_leaves_the_largest_object_on_black(blobs):
    image, labels = (value.repeat(64, *[1] * (value.ndim - 1)) for value in blobs)
    image = image * 0.5 + 0.4  # a background that is not black
    masked, kept = augment.mask_neighbours(image, labels, 1.0, torch.Generator().manual_seed(0))
    largest = 1 if (labels[0] == 1).sum() > (labels[0] == 2).sum() else 2
    assert torch.equal(kept, torch.where(labels == largest, largest, 0))
    assert torch.equal(masked[:, 0][kept > 0], image[:, 0][kept > 0])
    background = (labels == 0).unsqueeze(1)
    whole = (masked == image)[background.expand_as(masked)].reshape(128, -1).all(1)  # others alone are black
    assert 0.3 < whole.float().mean() < 0.7 and not masked[whole][:, 0][(labels == 3 - largest)[whole]].any()
    near = masked[~whole]
    assert (near == 0).float().mean((1, 2, 3)).min() > 0.5 and (near[:, 0] > 0).sum((1, 2)).max() < 900
    assert (near[:, 0] > 0).sum((1, 2)).float().std() > 20  # the margin differs


def test_a_share_of_the_images_is_masked_and_those_without_objects_never(blobs):
    image, labels = (value.repeat(100, *[1] * (value.ndim - 1)) for value in blobs)
    labels[::2] = 0
    masked, kept = augment.mask_neighbours(image, labels, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(masked[::2], image[::2]) and not kept[::2].any()
    untouched = (kept == labels).flatten(1).all(1)[1::2]
    assert 0.3 < untouched.float().mean() < 0.7
    assert torch.equal(masked[1::2][untouched], image[1::2][untouched])


def test_the_background_is_dim_uneven_and_noisy(blobs):
    image = blobs[0].repeat(32, 1, 1, 1)
    dark = image == 0
    seen, changed = augment.add_background(image, 1.0, torch.Generator().manual_seed(0))
    assert changed.all()
    assert seen.shape == image.shape and seen.min() >= 0 and seen.max() <= 1 and seen.isfinite().all()
    background = seen[dark].reshape(64, -1)
    assert 0.01 < background.mean() < 0.15 and background.std(1).median() > 0.01
    assert (background == 0).any(1).float().mean() > 0.5  # below the black level
    assert seen[~dark].mean() > image[~dark].mean()  # bright objects saturate
    few, changed = augment.add_background(image, 0.25, torch.Generator().manual_seed(0))
    assert 0.1 < changed.float().mean() < 0.4
    assert torch.equal((few == image).flatten(1).all(1), ~changed)
