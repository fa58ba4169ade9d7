import json

import pytest
import torch
from safetensors.torch import save_file

from cellenv.weights_io import save_weights
from rewards.classifier import MoAClassifier
from rewards.judge import JudgeSegmenter
from rewards.measures import measure
from rewards.segmentation.embedded import EmbeddedSegmenter, FlowNet, normalise
from rewards.segmentation.protocol import CHANNELS

DNA = CHANNELS.index("DNA")
BOTH = pytest.mark.parametrize("model", [EmbeddedSegmenter, JudgeSegmenter])


def iou(labels, truth):
    return ((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum()


def with_floors(segmenter, **floors):
    """The segmenter with other floors."""
    changed = type(segmenter)(**{**segmenter.config, **floors})
    changed.load_state_dict(segmenter.state_dict())
    return changed


@BOTH
def test_synthetic_cells_are_found(model, many_cells):
    images, (nuclei, body) = many_cells
    masks = model.from_pretrained()(images)
    assert iou(masks.nuclei, nuclei) > 0.9
    assert iou(masks.cells, body) > 0.9
    assert measure(masks)["containment"].mean() > 0.93


@BOTH
def test_containment_falls_as_much_as_in_the_truth_when_the_nucleus_is_moved(model, many_cells):
    images, (nuclei, body) = many_cells
    shifted = images.clone()
    shifted[:, DNA] = images[:, DNA].roll(48, 2)
    moved = nuclei.roll(48, 1)
    expected = ((moved > 0) & (body > 0)).sum() / (moved > 0).sum()
    masks = model.from_pretrained()(shifted)
    found = ((masks.nuclei > 0) & (masks.cells > 0)).sum() / (masks.nuclei > 0).sum()
    assert expected < 0.8
    assert abs(found - expected) < 0.08


@BOTH
def test_flat_images_and_noise_hold_no_object(model, empty_images):
    masks = model.from_pretrained()(empty_images)
    assert not masks.nuclei.any() and not masks.cells.any()


def test_batch_equals_one_by_one_across_chunks(cells):
    segmenter = EmbeddedSegmenter.from_pretrained()
    images = cells[0].repeat(6, 1, 1, 1)  # 72: more than one chunk
    masks = segmenter(images)
    assert torch.equal(masks.cells[:12], masks.cells[60:])
    alone = torch.cat([segmenter(image.unsqueeze(0)).nuclei for image in cells[0]])
    assert (masks.nuclei[:12] == alone).float().mean() > 0.999  # convolutions may round differently


def test_sizes_fit_the_levels_of_the_networks():
    with pytest.raises(ValueError, match="multiples of 16; got 96 x 90"):
        EmbeddedSegmenter()(torch.zeros(1, 3, 96, 90))


def test_normalise_keeps_noise_faint_and_gives_cells_full_contrast():
    rng = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(4, 1, 96, 96, generator=rng) - 1
    assert normalise(0.05 * noise).std() < 0.1
    step = torch.full((1, 1, 32, 32), -0.9)
    step[..., 16:] = 0.1
    torch.testing.assert_close(normalise(step), (step + 0.9).round())
    torch.testing.assert_close(normalise(0.5 * step - 0.2), normalise(step))  # contrast and level do not matter


def test_networks_are_small_and_frozen():
    segmenter = EmbeddedSegmenter()
    sizes = [sum(p.numel() for p in network.parameters()) for network in (segmenter.nuclei, segmenter.cells)]
    assert sizes[0] < 60_000 and sizes[1] < 170_000
    assert not any(p.requires_grad for p in segmenter.parameters())
    assert FlowNet(1, (4, 8))(torch.zeros(2, 1, 16, 32)).shape == (2, 3, 16, 32)


def test_objects_smaller_than_their_share_of_the_image_are_removed(cells):
    shipped = EmbeddedSegmenter.from_pretrained()
    nuclei, bodies = (measure(shipped(cells[0]))[f"{name}_area_max"] for name in ("nucleus", "cell"))
    for name, area, kind in (("min_nucleus_area", nuclei, 0), ("min_cell_area", bodies, 1)):
        limited = with_floors(shipped, **{name: float(area.max()) / 96**2})
        present = limited(cells[0])[kind].flatten(1).any(1)
        assert torch.equal(present, area == area.max())


def test_cells_fainter_than_the_floor_are_removed_and_nuclei_stay(cells):
    shipped = EmbeddedSegmenter.from_pretrained()
    images, before = cells[0], shipped(cells[0])
    light = normalise(images[:, [CHANNELS.index("actin"), CHANNELS.index("tubulin")]]).mean(1)
    floor = float(light[0][before.cells[0] == 1].mean())
    after = with_floors(shipped, min_cell_contrast=floor + 1e-4)(images)
    assert not after.cells[0][before.cells[0] == 1].any() and torch.equal(after.nuclei, before.nuclei)
    assert with_floors(shipped, min_cell_contrast=floor - 1e-4)(images).cells[0][before.cells[0] == 1].all()
    darker = 0.5 * images - 0.4  # the floor is in units of the range of the image
    assert torch.equal(with_floors(shipped, min_cell_contrast=floor + 1e-4)(darker).cells > 0, after.cells > 0)


@pytest.mark.parametrize("floor", ["min_nucleus_area", "min_cell_area", "min_cell_contrast"])
@BOTH
def test_floors_are_in_units_of_the_image(model, floor):
    with pytest.raises(ValueError, match=rf"{floor} must lie in \[0, 1\], .* got 30"):
        model(**{floor: 30})


def test_save_and_load_give_the_same_masks(tmp_path, cells):
    shipped = EmbeddedSegmenter.from_pretrained()
    shipped.save_pretrained(tmp_path / "again.safetensors", {"command": "test"})
    again = EmbeddedSegmenter.from_pretrained(tmp_path / "again.safetensors")
    assert again.config == shipped.config
    for labels, expected in zip(again(cells[0]), shipped(cells[0]), strict=True):
        assert torch.equal(labels, expected)


def test_missing_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EmbeddedSegmenter.from_pretrained(tmp_path / "nowhere")
    EmbeddedSegmenter().save_pretrained(tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        EmbeddedSegmenter.from_pretrained(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("model", "path", "held"),
    [
        (EmbeddedSegmenter, JudgeSegmenter.shipped, "JudgeSegmenter"),
        (JudgeSegmenter, EmbeddedSegmenter.shipped, "EmbeddedSegmenter"),
        (EmbeddedSegmenter, MoAClassifier.shipped, "MoAClassifier"),
    ],
)
def test_weights_of_another_model_are_refused(model, path, held, tmp_path):
    with pytest.raises(ValueError, match=f"holds a {held}, need a {model.__name__}"):
        model.from_pretrained(path)
    save_weights(tmp_path, model().state_dict(), model().config)  # names no model
    with pytest.raises(ValueError, match=f"holds a None, need a {model.__name__}"):
        model.from_pretrained(tmp_path)


@pytest.mark.parametrize(("model", "seed"), [(EmbeddedSegmenter, 0), (JudgeSegmenter, 1)])
def test_shipped_weights_record_how_they_were_made(model, seed):
    training = json.loads(model.shipped.with_suffix(".json").read_text())["training"]
    assert training["config"]["seed"] == seed
    assert training["results"]["nuclei"]["ap50"] > 0.8 and training["results"]["cells"]["iou"] > 0.8
