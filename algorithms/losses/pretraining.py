"""The pretraining loss on real pairs beside a post-training loss (DDRL, arXiv:2512.04332).

Its minimum is the velocity of real images, so that it holds theta to the data, a forward KL divergence, where the KL
penalty holds theta to the base. n rows, C channels, H, W pixels, D condition size.
"""

from tensordict import TensorDictBase
from torchrl.objectives import LossModule

from algorithms.losses.matching import MatchingLoss, flow_matching


class PretrainingLoss(LossModule):
    """Reads what the matching loss reads, and x0, x1 (n, C, H, W), t (n,), condition (n, D) of real pairs under `real`.

    Writes what that loss writes, and loss_pretraining = weight mean((v_theta - v)^2) on the real pairs.

    Raises:
        ValueError: weight <= 0.
    """

    def __init__(self, matching: MatchingLoss, *, weight: float):
        super().__init__()
        if weight <= 0:
            raise ValueError(f"weight must be > 0, got {weight}: use the matching loss alone")
        self.matching, self.weight = matching, weight
        self.in_keys = [*matching.in_keys, "real"]
        self.out_keys = [*matching.out_keys, "loss_pretraining"]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        out = self.matching(tensordict)
        inputs = self.matching.regression_inputs(tensordict["real"])
        return out.set("loss_pretraining", self.weight * flow_matching(inputs.v_theta, inputs.v).mean())
