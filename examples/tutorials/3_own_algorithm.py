"""
An algorithm of your own
========================

A loss on re-noised samples is a pure function of velocities, and a module that feeds it. Rollouts, rewards,
normalisation, re-noising, the loop, checkpoints and logs are there already. The algorithm of this page imitates the
images that are better than their group, each with the weight of its advantage, and ignores the others.
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms import start_accelerator, train
from algorithms.losses.matching import MatchingLoss, flow_matching
from algorithms.recipes import nft
from algorithms.recipes.post_training import build_components

# %%
# The formula
# -----------
# One number for each row, and nothing random: the noise and the times are drawn before.


def imitation_loss(v_theta: Tensor, v: Tensor, A: Tensor) -> Tensor:
    """max(A, 0) |v_theta - v|^2, mean over pixels: (B, C, H, W) twice and (B,) -> (B,)."""
    return A.clamp(min=0) * flow_matching(v_theta, v)


# %%
# A function of tensors can be tested against what algebra says: the loss is 0 at v_theta = v, and an image below its
# group has no gradient.

v, worse = torch.randn(2, 3, 8, 8), torch.tensor([-1.0, -2.0])
assert imitation_loss(v, v, torch.ones(2)).eq(0).all()
assert imitation_loss(v + 1, v, worse).eq(0).all()

# %%
# The module
# ----------
# ``MatchingLoss`` holds the three models, evaluates theta at x_t, and adds the pull to the base. Keys that begin with
# ``loss_`` are summed, the others are logged.


class ImitationLoss(MatchingLoss):
    """Reads x0, x1, t, advantage, condition, row; writes loss_imitation, loss_kl and metrics."""

    in_keys = ["x0", "x1", "t", "advantage", "condition", "row"]  # noqa: RUF012 - TorchRL's form
    out_keys = ["loss_imitation", "loss_kl", "kl", "norm_ratio"]  # noqa: RUF012

    def forward(self, rows: TensorDict) -> TensorDict:
        """Mean loss over the rows."""
        inputs = self.regression_inputs(rows)
        loss = inputs.omega * imitation_loss(inputs.v_theta, inputs.v, rows["advantage"])
        return TensorDict({"loss_imitation": loss.mean(), **self.kl_penalty(inputs, rows)})


# %%
# The training
# ------------
# ``renoised_algorithm`` joins a loss with the rest of DiffusionNFT's recipe.

config = replace(nft.PRESETS["smoke"], output_dir=Path(mkdtemp()), trackers=(), mixed_precision="no")
accelerator = start_accelerator(mixed_precision="no")
components = build_components(config, accelerator)
loss = ImitationLoss(*components.models, kl_weight=0.1)
train(accelerator, config, components.renoised_algorithm(loss))
for line in (config.output_dir / "log.jsonl").read_text(encoding="utf-8").splitlines():
    numbers = json.loads(line)
    print({key: round(numbers[key], 4) for key in ("iteration", "reward", "loss_imitation", "loss_kl")})

# %%
# In the library it becomes two files, ``algorithms/losses/imitation.py`` and ``algorithms/recipes/imitation.py``, and
# with one entry of ``ALGORITHMS`` the command ``cellfluxrl train imitation``.
