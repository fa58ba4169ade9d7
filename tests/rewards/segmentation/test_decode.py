import numpy as np
import pytest
import torch
from skimage.measure import label as connected

from rewards.segmentation.decode import FLOW_SCALE, decode, postprocess_labels, remove_faint
from rewards.segmentation.targets import unit_flows
from tests.rewards.segmentation.cellpose_toys import voronoi_cells


@pytest.fixture(scope="module")
def truth():
    return voronoi_cells()


def share_that_agrees(labels, reference):
    """Share of the pixels of the reference objects that lie in the best matching object."""
    labels, reference = np.asarray(labels), np.asarray(reference)
    hit = sum(np.bincount(labels[reference == k])[1:].max(initial=0) for k in np.unique(reference[reference > 0]))
    return hit / (reference > 0).sum()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # inside Cellpose
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_decode_equals_cellpose_without_flow_threshold(truth, noise):
    dynamics = pytest.importorskip("cellpose.dynamics")
    rng = np.random.default_rng(1)
    flows = FLOW_SCALE * unit_flows(truth).numpy() + noise * rng.normal(size=(len(truth), 2, 96, 96))
    logits = np.where(truth.numpy() > 0, 3.0, -3.0) + noise * rng.normal(size=truth.shape)
    flows, logits = flows.astype(np.float32), logits.astype(np.float32)
    ours = decode(torch.from_numpy(flows), torch.from_numpy(logits)).numpy()
    for found, flow, logit in zip(ours, flows, logits, strict=True):
        expected = dynamics.compute_masks(flow, logit, niter=200, flow_threshold=0, max_size_fraction=1.0)
        assert len(np.unique(found)) == len(np.unique(expected))
        assert share_that_agrees(found, expected) > 0.99
        assert share_that_agrees(expected, found) > 0.99


def test_decode_finds_the_truth_again(truth):
    found = postprocess_labels(decode(FLOW_SCALE * unit_flows(truth), (truth > 0).float() - 0.5), 15)
    whole = postprocess_labels(truth, 15)
    assert [int(labels.max()) for labels in found] == [int(labels.max()) for labels in whole]
    assert share_that_agrees(found[0], whole[0]) > 0.99


def test_decode_of_nothing_is_nothing():
    assert not decode(torch.randn(3, 2, 32, 48), -torch.ones(3, 32, 48)).any()
    assert decode(torch.zeros(0, 2, 32, 32), torch.zeros(0, 32, 32)).shape == (0, 32, 32)


def test_decode_refuses_flows_of_another_shape():
    with pytest.raises(ValueError, match=r"need flows \(B, 2, H, W\)"):
        decode(torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32))


def test_batch_equals_one_by_one(truth):
    flows, logits = FLOW_SCALE * unit_flows(truth), (truth > 0).float() - 0.5
    alone = torch.cat([decode(flows[b : b + 1], logits[b : b + 1]) for b in range(len(truth))])
    assert torch.equal(decode(flows, logits), alone)
    cleaned = torch.cat([postprocess_labels(alone[b : b + 1], 15) for b in range(len(truth))])
    assert torch.equal(postprocess_labels(alone, 15), cleaned)


def test_postprocessing_keeps_the_largest_component_drops_specks_and_fills_holes():
    labels = torch.zeros(1, 40, 40, dtype=torch.int32)
    labels[0, 5:20, 5:20] = 7
    labels[0, 9:12, 9:12] = 0  # a hole: filled
    labels[0, 30:33, 30:33] = 7  # a second part: dropped
    labels[0, 25:28, 2:5] = 3  # 9 px: a speck
    labels[0, 5:20, 20:30] = 4  # a neighbour that touches
    labels[0, 11:13, 19:21] = 0  # a hole between the two: stays
    labels[0, :4, 32:40], labels[0, :2, 34:36] = 9, 0  # a bay at the border: stays
    untouched = labels.clone()
    cleaned = postprocess_labels(labels, 16)[0]
    assert torch.equal(labels, untouched)
    assert sorted(cleaned.unique().tolist()) == [0, 1, 2, 3]
    assert cleaned[10, 10] == cleaned[6, 6] > 0
    assert cleaned[31, 31] == 0 and cleaned[26, 3] == 0
    assert cleaned[11, 19] == 0 and cleaned[12, 20] == 0 and cleaned[1, 34] == 0
    assert int((cleaned == cleaned[6, 6]).sum()) == 15 * 15 - 2
    for k in (1, 2, 3):
        assert connected(cleaned.numpy() == k, connectivity=1).max() == 1


def test_faint_objects_are_removed_and_the_others_renumbered():
    labels = torch.zeros(3, 8, 8, dtype=torch.int32)
    light = torch.full((3, 8, 8), 0.5)
    labels[0, :2], labels[0, 3:5], labels[0, 6:] = 1, 2, 3
    light[0, :2], light[0, 3:5, 0], light[0, 3:5, 1:] = 0.1, 0.9, 0.1  # means 0.1 and 0.2
    labels[1, :4] = 1  # its number is faint in the first image alone
    expected = torch.zeros_like(labels)
    expected[0, 3:5], expected[0, 6:], expected[1, :4] = 1, 2, 1
    kept = remove_faint(labels, light, 0.2 - 1e-6)
    assert kept.dtype == torch.int32 and torch.equal(kept, expected)
    assert not remove_faint(labels, light, 0.6).any() and torch.equal(remove_faint(labels, light, 0.0), labels)
    assert remove_faint(labels[:0], light[:0], 0.2).shape == (0, 8, 8)
