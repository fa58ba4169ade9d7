import numpy as np
import torch

from rewards.segmentation.targets import unit_flows
from tests.rewards.segmentation.cellpose_toys import discs, needs3, voronoi_cells


@needs3
def test_flows_equal_cellpose():
    from cellpose.dynamics import masks_to_flows  # absent from 4

    truth = voronoi_cells()
    expected = np.stack([masks_to_flows(labels) for labels in truth.numpy()])
    np.testing.assert_allclose(unit_flows(truth), expected, atol=1e-6)


def test_flows_of_a_disc_point_to_its_centre_and_have_length_one():
    labels = discs(48, 64, (20, 40, 15))
    flows = unit_flows(labels.unsqueeze(0))[0]  # (2, H, W)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    to_centre = torch.stack([20 - y, 40 - x])
    distance = to_centre.norm(dim=0)
    ring = (labels > 0) & (distance > 4)
    cosine = (flows * to_centre).sum(0)[ring] / distance[ring]
    assert cosine.min() > 0.97
    assert not flows[:, labels == 0].any()


def test_touching_objects_have_their_own_centres():
    labels = torch.zeros(1, 32, 64, dtype=torch.int32)
    labels[0, 8:24, 8:32], labels[0, 8:24, 32:56] = 1, 2
    flows = unit_flows(labels)[0, 1]  # dx
    assert (flows[10:22, 30:32] < 0).all() and (flows[10:22, 32:34] > 0).all()
