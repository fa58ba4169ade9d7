"""
A reward of your own
====================

A reward is a function of a batch of images that returns one number for each, higher is better, nan where an image
cannot be scored. The names of its parameters choose its inputs: ``images``, ``x0``, ``moa``, and the label images
``nuclei`` and ``cells``.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torchrl.envs import TransformedEnv

from cellenv import GeneratorPolicy, VirtualCellEnv, load_embedded
from cellenv.images import CHANNELS
from cellenv.pictures import composite, grid
from rewards import cellflux_rewards, custom_reward

# %%
# The function
# ------------
# DNA outside of nuclei is debris, or a nucleus that the generator has smeared. This one looks at pixels and masks.


def dna_in_nuclei(images: Tensor, nuclei: Tensor) -> Tensor:
    """Share of the DNA stain inside nuclei, (B, C, H, W) and labels (B, H, W) -> (B,); nan without any stain."""
    stain = images[:, CHANNELS.index("DNA")] + 1  # 0 is black
    return (stain * (nuclei > 0)).sum((1, 2)) / stain.sum((1, 2))


# %%
# What it should say of images that one can draw by hand: all of the stain in the nucleus, three quarters, none at all.

nuclei = torch.zeros(3, 8, 8, dtype=torch.int32)
nuclei[:, :4] = 1
images = torch.full((3, 3, 8, 8), -1.0)
images[0, 2, :2], images[1, 2, 1:5] = 1, 1
print(dna_in_nuclei(images, nuclei))

# %%
# Beside the seven
# ----------------
# It joins the suite with a weight; masks are computed once and shared by all rewards.

suite = cellflux_rewards(extra=[custom_reward(dna_in_nuclei, weight=2)])
generator, cells = load_embedded("test")
env = TransformedEnv(VirtualCellEnv(cells, batch_size=6, seed=0), suite)
with torch.no_grad():
    step = env.step(GeneratorPolicy(generator)(env.reset()))
for name, values in step["next", "rewards"].items():
    print(f"{name:14s} {values.nanmean():7.3f}")

# %%
# What it prefers
# ---------------
# Look at what a reward ranks high before training on it: the generator will give you more of just that.

score = step["next", "rewards", "dna_in_nuclei"].flatten()
order = score.argsort()
titles = [f"{value:.3f}" for value in score[order].tolist()]
plt.figure(figsize=(9, 1.9), layout="constrained")
plt.imshow(grid([composite(step["action"][order])], ["DNA in nuclei"], titles))
plt.axis("off")
plt.show()

# %%
# In a file ``mine.py`` it is ``--reward dna=mine.py:dna_in_nuclei:2`` on the command line; ``train``, ``evaluate``,
# ``best-of-n`` and ``score`` take it. ``examples/own_reward.py`` is a script with two more.
