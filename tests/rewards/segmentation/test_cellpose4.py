"""Cellpose 4: the arguments it gets, with a stand-in of its signature; and the real class if it is installed."""

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from skimage.measure import label as connected

from rewards.segmentation import CHANNELS, CellposeSegmenter
from tests.rewards.segmentation.cellpose_toys import CELLS, IMAGES, MAJOR, NUCLEI, inside_cellpose, paint, stub_network

pytestmark = inside_cellpose
DNA = CHANNELS.index("DNA")


class StandIn:
    """A CellposeModel with the signatures of 4.2, which segments pixels above 0.5 and records its arguments."""

    def __init__(
        self,
        gpu=False,
        pretrained_model="cpsam_v2",
        model_type=None,
        diam_mean=None,
        device=None,
        nchan=None,
        use_bfloat16=True,
    ):
        self.built = {name: value for name, value in locals().items() if name != "self"}
        self.calls = []

    def eval(
        self,
        x,
        batch_size=8,
        resample=True,
        channels=None,
        channel_axis=None,
        z_axis=None,
        normalize=True,
        rescale=None,
        diameter=None,
        flow_threshold=0.4,
        cellprob_threshold=0.0,
        do_3D=False,
        anisotropy=None,
        flow3D_smooth=0,
        stitch_threshold=0.0,
        min_size=15,
        max_size_fraction=0.4,
        niter=None,
        augment=False,
        tile_overlap=0.1,
        bsize=None,
        compute_masks=True,
        progress=None,
    ):
        self.calls.append({name: value for name, value in locals().items() if name != "self"})
        labels = [connected(image.max(-1) > 0.5, connectivity=1).astype("uint16") for image in x]
        return np.stack(labels).squeeze(), [None, None, None], np.zeros(0)  # 4.x drops axes of length 1 too


@pytest.fixture
def cellpose4(monkeypatch, tmp_path):
    """Cellpose 4 in place of the installed package. Returns its folder, which holds an empty weights file."""
    package, models = ModuleType("cellpose"), ModuleType("cellpose.models")
    package.models, models.CellposeModel = models, StandIn
    monkeypatch.setitem(sys.modules, "cellpose", package)
    monkeypatch.setitem(sys.modules, "cellpose.models", models)
    monkeypatch.setattr("rewards.segmentation.cellpose.version", lambda name: "4.2.1.1")
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    (tmp_path / "cpsam").touch()
    return tmp_path


def test_each_pass_gets_one_array_and_only_arguments_that_4_takes(cellpose4):
    segmenter = CellposeSegmenter()
    segmenter(IMAGES)
    nuclei, cells = segmenter.nuclei.model.calls
    for call in (nuclei, cells):
        x = call.pop("x")
        assert isinstance(x, np.ndarray) and x.shape == (3, 64, 96, 3) and x.dtype == np.float32
        assert x.min() == 0 and x.max() == 1
    assert nuclei.pop("min_size") == 30 and cells.pop("min_size") == 100
    told = {"channel_axis": 3, "normalize": {"normalize": False}, "max_size_fraction": 1.0}
    defaults = {name: value.default for name, value in inspect.signature(StandIn.eval).parameters.items()}
    expected = {name: told.get(name, defaults[name]) for name in nuclei}  # no channels, no rescaling
    assert nuclei == cells == expected


def test_settings_are_passed_on(cellpose4):
    segmenter = CellposeSegmenter(nucleus_diameter=40, cell_diameter=75, flow_threshold=0.1, batch_size=5)
    segmenter(IMAGES)
    calls = segmenter.nuclei.model.calls
    assert [call["diameter"] for call in calls] == [40, 75]
    assert [(call["flow_threshold"], call["batch_size"]) for call in calls] == [(0.1, 5)] * 2


def test_the_network_is_built_once_from_the_file_and_in_full_precision_on_a_cpu(cellpose4):
    segmenter = CellposeSegmenter(device="cpu")
    assert segmenter.nuclei.model is segmenter.cells.model
    usual = {"model_type": None, "diam_mean": None, "nchan": None}
    place = {"gpu": False, "device": torch.device("cpu"), "use_bfloat16": False}
    assert segmenter.cells.model.built == {"pretrained_model": str(cellpose4 / "cpsam"), **place, **usual}


@pytest.mark.parametrize(("device", "half"), [("cuda:1", True), ("mps", False)])
def test_precision_follows_the_device(cellpose4, device, half):
    built = CellposeSegmenter(device=device).cells.model.built
    assert (built["device"], built["gpu"], built["use_bfloat16"]) == (torch.device(device), True, half)


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_cuda_is_used_where_there_is_one(cellpose4, monkeypatch, there, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert CellposeSegmenter().cells.model.built["device"] == torch.device(device)


def test_nuclei_are_found_in_dna_and_cells_in_actin_and_tubulin(cellpose4):
    segmenter = CellposeSegmenter(min_areas=(1, 1))
    for rows in (slice(None), slice(1, 2)):
        masks = segmenter(IMAGES[rows])
        for labels, truth in zip(masks, (NUCLEI, CELLS), strict=True):
            assert labels.dtype == torch.int32 and torch.equal(labels, truth[rows])
    for channel in ("actin", "tubulin"):
        assert torch.equal(segmenter(paint(**{channel: CELLS, "DNA": NUCLEI})).cells, CELLS)


def test_dna_never_reaches_the_cell_pass_nor_the_body_the_nuclear_one(cellpose4):
    segmenter = CellposeSegmenter()
    foreign = IMAGES.clone()
    foreign[:, DNA] = IMAGES[:, DNA].roll(1, 0)
    segmenter(IMAGES)
    segmenter(foreign)
    nuclei, cells, foreign_nuclei, same_cells = (call["x"] for call in segmenter.nuclei.model.calls)
    np.testing.assert_array_equal(cells, same_cells)
    np.testing.assert_array_equal(np.roll(nuclei, 1, 0), foreign_nuclei)
    assert not nuclei[..., 1:].any() and not cells[..., 2].any()
    assert nuclei[..., 0].any() and cells[..., 0].any() and cells[..., 1].any()


def test_a_flat_or_noisy_image_holds_no_object(cellpose4):
    noise = 0.1 * torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    masks = CellposeSegmenter()(torch.cat([noise.clamp(-1, 1), torch.full((1, 3, 96, 96), -1.0)]))
    assert not masks.nuclei.any() and not masks.cells.any()


def test_an_empty_batch_does_not_reach_the_network(cellpose4):
    segmenter = CellposeSegmenter()
    assert segmenter(torch.zeros(0, 3, 96, 96)).cells.shape == (0, 96, 96)
    assert segmenter.cells.model.calls == []


def test_missing_weights_name_the_places_that_were_searched(cellpose4):
    (cellpose4 / "cpsam").unlink()
    with pytest.raises(FileNotFoundError, match=rf"'cpsam'.*{cellpose4}/cpsam"):
        CellposeSegmenter()
    assert list(cellpose4.iterdir()) == []


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the real network, 305 M parameters."""
    from cellpose.vit import CPSAM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CPSAM(dtype=torch.float32)
    file = tmp_path_factory.mktemp("weights") / "random"
    network.save_model(file)
    return file


installed = pytest.mark.skipif(MAJOR < 4, reason="needs Cellpose 4 and torchvision")


@installed
@pytest.mark.cellpose4
def test_the_stand_in_takes_nothing_that_the_real_class_does_not():
    from cellpose.models import CellposeModel

    for name in ("__init__", "eval"):
        ours, real = (inspect.signature(getattr(kind, name)).parameters for kind in (StandIn, CellposeModel))
        assert {key: value.default for key, value in ours.items()} == {
            key: value.default for key, value in real.items()
        }


@installed
@pytest.mark.cellpose4
def test_the_real_class_finds_the_objects_in_few_forward_passes(weights, monkeypatch):
    segmenter = CellposeSegmenter(weights, weights, device="cpu")
    seen = stub_network(monkeypatch, segmenter.nuclei.model)
    for segmenter.batch_size, forwards in ((8, [3]), (2, [2, 1])):
        for labels, truth in zip(segmenter(IMAGES), (NUCLEI, CELLS), strict=True):
            assert labels.dtype == torch.int32 and torch.equal(labels, truth)
        assert [len(planes) for planes in seen] == 2 * forwards
        assert all(planes.shape[1:] == (3, 256, 256) and planes.dtype == torch.float32 for planes in seen)
        seen.clear()
    alone = segmenter(IMAGES[1:2])
    assert torch.equal(alone.nuclei, NUCLEI[1:2]) and torch.equal(alone.cells, CELLS[1:2])


@installed
@pytest.mark.cellpose4
@pytest.mark.slow
def test_the_real_network_takes_the_planes(weights):
    masks = CellposeSegmenter(weights, weights, flow_threshold=0, device="cpu")(IMAGES[:1])
    assert all(set(labels.unique().tolist()) == set(range(int(labels.max()) + 1)) for labels in masks)


@installed
@pytest.mark.cellpose4
def test_weights_of_3_are_refused(tmp_path):
    torch.save({"output.2.weight": torch.zeros(3, 32, 1, 1)}, tmp_path / "old")
    with pytest.raises(ValueError, match="CP4 model"):
        CellposeSegmenter(tmp_path / "old", tmp_path / "old", device="cpu")
