import pytest
import torch
from cellpose_toys import MAJOR, inside_cellpose, save_random, watch
from safetensors.torch import save_file

from cellenv.checkpoints import save_weights
from cellenv.data.synthetic import SyntheticCells
from rewards.classifier import MoAClassifier
from rewards.judge import JudgeSegmenter
from rewards.measures import measure
from rewards.segmentation import CHANNELS, CellposeSegmenter, ClassicalSegmenter, EmbeddedSegmenter, split_channels
from rewards.segmentation.embedded import FlowNet, normalise

DNA = CHANNELS.index("DNA")
pytestmark = inside_cellpose


@pytest.fixture(scope="module")
def cells():
    """Twelve synthetic cells and their truth."""
    data = SyntheticCells("test")
    rows = torch.arange(0, len(data), len(data) // 12)[:12]
    return data.images(rows), data.masks(rows)


@pytest.fixture(scope="module")
def cellpose(tmp_path_factory):
    """Cellpose 3.1 with a network that sees what is bright."""
    if MAJOR >= 4:
        pytest.skip("needs Cellpose 3.1")
    file = save_random(tmp_path_factory.mktemp("weights") / "random")
    with pytest.MonkeyPatch.context() as patch:
        segmenter = CellposeSegmenter(file, file, flow_threshold=0)
        watch(patch, segmenter.nuclei.model)  # of both passes
        yield segmenter


@pytest.fixture(params=["embedded", "judge", "classical", "cellpose"])
def segmenter(request):
    if request.param == "cellpose":
        return request.getfixturevalue("cellpose")
    if request.param == "classical":
        return ClassicalSegmenter()
    return {"embedded": EmbeddedSegmenter, "judge": JudgeSegmenter}[request.param].from_pretrained()


def test_foreign_dna_leaves_the_cells_alone(segmenter, cells):
    images = cells[0]
    swapped = images.clone()
    swapped[:, DNA] = images[:, DNA].roll(1, 0)
    masks, foreign = segmenter(images), segmenter(swapped)
    assert masks.cells.any() and masks.nuclei.any()
    assert torch.equal(masks.cells, foreign.cells)
    assert torch.equal(masks.nuclei.roll(1, 0), foreign.nuclei)  # and nuclei do not depend on the cell
    for labels in masks:
        assert labels.dtype == torch.int32 and labels.shape == (12, 96, 96)
        assert all(set(one.unique().tolist()) - {0} == set(range(1, int(one.max()) + 1)) for one in labels)


def test_channels_go_by_name(segmenter, cells):
    images = cells[0][:3]
    order = [2, 0, 1]
    masks = segmenter(images)
    moved = segmenter(images[:, order], channels=[CHANNELS[c] for c in order])
    more = segmenter(torch.cat([images[:, :1] * 0, images], 1), channels=["ER", *CHANNELS])
    for labels, after, among in zip(masks, moved, more, strict=True):
        assert torch.equal(labels, after) and torch.equal(labels, among)


@pytest.mark.parametrize(
    ("segmenter", "overlap", "contained"),
    [("embedded", 0.9, 0.93), ("judge", 0.9, 0.93), ("classical", 0.65, 0.5)],
    indirect=["segmenter"],
)
def test_truth_is_found_on_synthetic_cells(segmenter, overlap, contained, cells):
    """A threshold loses thin and dim cytoplasm, and finds less of a nucleus contained than there is."""
    images, (nuclei, body) = cells
    masks = segmenter(images)
    for labels, truth, least in ((masks.nuclei, nuclei, 0.9), (masks.cells, body, overlap)):
        assert ((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum() > least
    assert measure(masks)["containment"].mean() > contained


@pytest.mark.parametrize("segmenter", ["embedded", "judge"], indirect=True)
def test_containment_sees_a_foreign_nucleus(segmenter, cells):
    """With the nucleus shifted by half the crop its share inside the cell drops as the truth says."""
    images, (nuclei, body) = cells
    shifted = images.clone()
    shifted[:, DNA] = images[:, DNA].roll(48, 2)
    moved = nuclei.roll(48, 1)
    expected = ((moved > 0) & (body > 0)).sum() / (moved > 0).sum()
    masks = segmenter(shifted)
    found = ((masks.nuclei > 0) & (masks.cells > 0)).sum() / (masks.nuclei > 0).sum()
    assert expected < 0.8
    assert abs(found - expected) < 0.08


@pytest.mark.parametrize("segmenter", ["embedded", "judge", "classical"], indirect=True)
def test_images_of_nothing_hold_no_object(segmenter):
    rng = torch.Generator().manual_seed(0)
    flat = torch.tensor([-1.0, -0.3, 0.0, 1.0]).reshape(-1, 1, 1, 1).expand(4, 3, 96, 96)
    uniform = 2 * torch.rand(8, 3, 96, 96, generator=rng) - 1
    gauss = torch.randn(8, 3, 96, 96, generator=rng)
    stretched = 2 * (gauss - gauss.amin((2, 3), True)) / (gauss.amax((2, 3), True) - gauss.amin((2, 3), True)) - 1
    masks = segmenter(torch.cat([flat, uniform, stretched, 0.02 * gauss]).clamp(-1, 1))
    assert not masks.nuclei.any() and not masks.cells.any()


@pytest.mark.parametrize("segmenter", ["embedded", "judge", "classical"], indirect=True)
def test_an_empty_batch_is_fine(segmenter):
    assert segmenter(torch.zeros(0, 3, 96, 96)).nuclei.shape == (0, 96, 96)


def test_batch_equals_one_by_one_across_chunks(cells):
    segmenter = EmbeddedSegmenter.from_pretrained()
    images = cells[0].repeat(6, 1, 1, 1)  # 72: more than one chunk
    masks = segmenter(images)
    assert torch.equal(masks.cells[:12], masks.cells[60:])
    alone = torch.cat([segmenter(image.unsqueeze(0)).nuclei for image in cells[0]])
    assert (masks.nuclei[:12] == alone).float().mean() > 0.999  # convolutions may round otherwise


BAD = {
    "planes": (torch.zeros(2, 4, 96, 96), CHANNELS, r"need images \(B, 3, H, W\)"),
    "no batch": (torch.zeros(3, 96, 96), CHANNELS, r"need images \(B, 3, H, W\)"),
    "names": (torch.zeros(2, 3, 96, 96), ("red", "green", "DNA"), "channels named actin, tubulin, DNA"),
    "twice": (torch.zeros(2, 3, 96, 96), ("DNA", "tubulin", "DNA"), "each once"),
    "size": (torch.zeros(2, 3, 8, 96), CHANNELS, "at least 16 px"),
    "bytes": (torch.zeros(2, 3, 96, 96, dtype=torch.uint8), CHANNELS, "x / 127.5 - 1"),
    "range": (torch.full((2, 3, 96, 96), 1.5), CHANNELS, "clamp or rescale"),
    "nan": (torch.full((2, 3, 96, 96), float("nan")), CHANNELS, "nan or infinite"),
    "inf": (torch.full((2, 3, 96, 96), float("inf")), CHANNELS, "nan or infinite"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_images_are_refused(segmenter, bad):
    images, channels, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        segmenter(images, channels)


def test_one_bad_pixel_is_found(cells):
    images = cells[0].clone()
    images[7, 1, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="1 of 331776 are nan or infinite"):
        split_channels(images, CHANNELS)


def test_the_embedded_one_says_which_sizes_it_takes():
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


def test_save_and_load_give_the_same_masks(tmp_path, cells):
    shipped = EmbeddedSegmenter.from_pretrained()
    shipped.save_pretrained(tmp_path / "again.safetensors", {"command": "test"})
    again = EmbeddedSegmenter.from_pretrained(tmp_path / "again.safetensors")
    assert again.config == shipped.config
    for labels, expected in zip(again(cells[0]), shipped(cells[0]), strict=True):
        assert torch.equal(labels, expected)


def test_missing_damaged_or_foreign_weights_are_named(tmp_path):
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
def test_one_model_is_not_loaded_as_another(model, path, held, tmp_path):
    with pytest.raises(ValueError, match=f"holds a {held}, need a {model.__name__}"):
        model.from_pretrained(path)
    save_weights(tmp_path, model().state_dict(), model().config)  # says of no model that it is its own
    with pytest.raises(ValueError, match=f"holds a None, need a {model.__name__}"):
        model.from_pretrained(tmp_path)


@pytest.mark.parametrize(("model", "seed"), [(EmbeddedSegmenter, 0), (JudgeSegmenter, 1)])
def test_shipped_weights_say_how_they_were_made(model, seed):
    import json

    training = json.loads(model.shipped.with_suffix(".json").read_text())["training"]
    assert training["command"].startswith("python examples/train_segmenter.py")
    assert training["config"]["seed"] == seed
    assert training["results"]["nuclei"]["ap50"] > 0.8 and training["results"]["cells"]["iou"] > 0.8
