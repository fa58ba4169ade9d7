"""Cellpose 3.1: the real class, with random weights or with a stub in place of its network."""

import logging

import pytest
import torch
from tensordict import TensorDict

from cellenv.data.synthetic import SyntheticCells
from rewards import cellflux_rewards
from rewards.segmentation import CHANNELS, CellposeSegmenter
from tests.rewards.segmentation.cellpose_toys import (
    CELLS,
    IMAGES,
    NUCLEI,
    discs,
    ideal_output,
    inside_cellpose,
    needs3,
    paint,
    save_random,
    stub_network,
)

pytestmark = [needs3, *inside_cellpose]
DNA = CHANNELS.index("DNA")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights, one file for nuclei and one for cells."""
    folder = tmp_path_factory.mktemp("weights")
    return save_random(folder / "for-nuclei"), save_random(folder / "for-cells", seed=4)


@pytest.fixture
def build(files, monkeypatch):
    """options -> a segmenter with perfect networks and no rescaling, and the inputs that each network gets."""

    def build(answer=ideal_output, **options):
        options = {"nucleus_diameter": 30, "cell_diameter": 30} | options
        segmenter = CellposeSegmenter(*files, **options)
        return segmenter, *(stub_network(monkeypatch, one.model, answer) for one in (segmenter.nuclei, segmenter.cells))

    return build


def test_nuclei_are_found_in_dna_and_cells_in_actin_and_tubulin(build):
    segmenter = build()[0]
    masks = segmenter(IMAGES)
    for labels, truth in zip(masks, (NUCLEI, CELLS), strict=True):
        assert labels.dtype == torch.int32 and torch.equal(labels, truth)
    alone = segmenter(IMAGES[1:2])
    assert torch.equal(alone.nuclei, NUCLEI[1:2]) and torch.equal(alone.cells, CELLS[1:2])
    for channel in ("actin", "tubulin"):
        assert torch.equal(segmenter(paint(**{channel: CELLS, "DNA": NUCLEI})).cells, CELLS)


def test_dna_never_reaches_the_cell_pass_nor_the_body_the_nuclear_one(build):
    segmenter, by_nuclei, by_cells = build()
    segmenter(IMAGES)
    foreign = IMAGES.clone()
    foreign[:, DNA] = IMAGES[:, DNA].roll(1, 0)
    segmenter(foreign)
    assert torch.equal(*by_cells)
    assert torch.equal(by_nuclei[0].roll(1, 0), by_nuclei[1])
    for planes in (*by_nuclei, *by_cells):
        assert planes[:, 0].any() and not planes[:, 1].any()  # nothing in the plane of nuclei
    segmenter(paint(DNA=NUCLEI))
    assert not by_cells[2].any()


@pytest.mark.parametrize(("options", "sizes"), [({}, [10]), ({"batch_size": 4}, [4, 4, 2]), ({"batch_size": 10}, [10])])
def test_images_are_batched_into_as_few_forward_passes_as_possible(build, options, sizes):
    segmenter, *passes = build(**options)
    masks = segmenter(IMAGES[:2].repeat(5, 1, 1, 1))
    for seen, labels, truth in zip(passes, masks, (NUCLEI, CELLS), strict=True):
        assert [len(planes) for planes in seen] == sizes
        assert torch.equal(labels, truth[:2].repeat(5, 1, 1))


def test_the_batch_gives_what_cellpose_gives_for_each_image(files):
    """Against the call of Cellpose's documentation, one grey image at a time, with random weights."""
    images = SyntheticCells("test").images(torch.arange(0, 60, 20))
    segmenter = CellposeSegmenter(*files, flow_threshold=0, min_areas=(15, 15))
    masks = segmenter(images)
    for planes, one, labels in (
        (images[:, [DNA]], segmenter.nuclei, masks.nuclei),
        (images[:, :DNA], segmenter.cells, masks.cells),
    ):
        for grey, found in zip(segmenter.planes(planes)[:, 0], labels, strict=True):
            expected = one.model.eval(
                grey.numpy(),
                channels=[0, 0],
                normalize={"normalize": False},
                diameter=one.diameter,
                flow_threshold=0,
                max_size_fraction=1.0,
            )[0]
            expected = torch.from_numpy(expected.astype("int32"))
            assert expected.any() and not expected.all()
            assert (found[expected == 0] == 0).all()
            largest = found == found.flatten().bincount()[1:].argmax() + 1
            assert len(expected[largest].unique()) == 1  # an object is (the largest part of) one of Cellpose's
            assert (found > 0).sum() > 0.8 * (expected > 0).sum()
        assert all(set(one.unique().tolist()) == set(range(int(one.max()) + 1)) for one in labels)


def test_a_flat_or_noisy_image_holds_no_object(build):
    segmenter = build()[0]
    rng = torch.Generator().manual_seed(0)
    flat = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 3, 96, 96)
    noise = 0.1 * torch.randn(3, 3, 96, 96, generator=rng)
    masks = segmenter(torch.cat([flat, noise.clamp(-1, 1)]))
    assert not masks.nuclei.any() and not masks.cells.any()


def test_level_and_contrast_of_the_image_do_not_matter(build):
    masks = build()[0](0.4 * IMAGES - 0.3)
    assert torch.equal(masks.nuclei, NUCLEI) and torch.equal(masks.cells, CELLS)


def test_a_cell_that_fills_the_crop_counts(build):
    labels = torch.ones(1, 64, 64, dtype=torch.int32)
    labels[:, :8, :8] = 0
    assert torch.equal(build()[0](paint(actin=labels, tubulin=labels, DNA=labels)).cells, labels)


def test_specks_are_left_out(build):
    speck = discs(64, 64, (20, 20, 4), (40, 40, 12)).unsqueeze(0)  # 49 and 441 px^2
    image = paint(actin=speck, tubulin=speck, DNA=speck)
    assert build()[0](image).nuclei.max() == 2 and build()[0](image).cells.max() == 1  # from 30, from 100 px^2
    assert build(min_areas=(50, 49))[0](image).nuclei.max() == 1
    assert build(min_areas=(50, 49))[0](image).cells.max() == 2


def test_objects_with_inconsistent_flows_are_removed_unless_the_threshold_is_zero(build):
    def doubt(planes):
        out, style = ideal_output(planes)
        out[:, :2] *= 0.3  # |flow - 0.3 flow|^2 = 0.49
        return out, style

    assert not build(doubt)[0](IMAGES).nuclei.any()
    assert torch.equal(build(doubt, flow_threshold=0)[0](IMAGES).nuclei, NUCLEI)
    assert torch.equal(build(doubt, flow_threshold=0.6)[0](IMAGES).nuclei, NUCLEI)


@pytest.mark.parametrize(
    ("stored", "name", "diameter", "px"),
    [
        ({"diam_mean": 30}, "own", 60, 48),  # 96 px * 30 / 60
        ({"diam_mean": 20}, "own", 60, 32),  # the file's own size counts
        ({"diam_mean": 25}, "own", None, 48),  # 50 px are usual for nuclei
        ({"diam_mean": 30, "diam_labels": 60}, "own", 0, 48),  # and 0 px are what it was trained on
        ({}, "nucleitorch_0", 34, 48),  # 17 px for Cellpose's own nuclei
        ({}, "cytotorch_0", 60, 48),
    ],
)
def test_images_are_rescaled_to_the_object_size_of_the_file(tmp_path, monkeypatch, stored, name, diameter, px):
    file = save_random(tmp_path / name, drop=() if stored else ("diam_",), **stored)
    segmenter = CellposeSegmenter(file, file, nucleus_diameter=diameter)
    seen = stub_network(monkeypatch, segmenter.nuclei.model)
    truth = discs(96, 96, (40, 50, 20)).unsqueeze(0)
    labels = segmenter(paint(DNA=truth)).nuclei
    assert seen[0].shape[2:] == (px + 16, px + 16)  # Cellpose pads by 16 px
    assert ((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum() > 0.9


def test_settings_of_cellpose_are_restored_and_nothing_is_logged(build, capfd, caplog):
    from cellpose import models

    segmenter = build()[0]
    caplog.clear()
    caplog.set_level(logging.INFO, logger="cellpose")
    segmenter(torch.cat([IMAGES, IMAGES * 0]))
    assert models.normalize_default["normalize"] and models.normalize_default["norm3D"]
    assert logging.getLogger("cellpose").level == logging.INFO
    assert capfd.readouterr() == ("", "") and caplog.records == []


def test_an_empty_batch_is_fine(build):
    assert build()[0](torch.zeros(0, 3, 96, 96)).cells.shape == (0, 96, 96)


def test_the_rewards_segment_once_with_cellpose(build):
    segmenter, by_nuclei, by_cells = build()
    images = SyntheticCells("test").images(torch.arange(4))
    td = TensorDict({"action": images.reshape(2, 2, 3, 96, 96), "moa": torch.zeros(2, 2, dtype=torch.long)}, (2, 2))
    rewards = cellflux_rewards(segmenter=segmenter)(td)["rewards"]
    assert rewards["containment"].shape == (2, 2, 1) and rewards["containment"].isfinite().all()
    assert len(by_nuclei) == len(by_cells) == 1  # one segmentation for all rewards


def test_incomplete_damaged_or_foreign_weights_are_refused(tmp_path):
    file = tmp_path / "model"
    for drop, absent in ((("output",), "output.0.weight|output.0"), (("running_mean",), "running_mean")):
        save_random(file, drop=drop)
        with pytest.raises(ValueError, match=rf"model is no model of Cellpose 3: .*({absent}).*damaged"):
            CellposeSegmenter(file, file)
    torch.save({"W2": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"one of Cellpose 4"):
        CellposeSegmenter(file, file)
    torch.save(torch.zeros(2), file)
    with pytest.raises(ValueError, match="model holds no weights: need a dict of tensors, got a Tensor"):
        CellposeSegmenter(file, file)
    file.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="model cannot be read"):
        CellposeSegmenter(file, file)
