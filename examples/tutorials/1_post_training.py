"""
Post-train the embedded generator
=================================

What ``cellfluxrl train nft`` does, from Python and in small: a config, the parts that are built from it, the loop, and
what the weights draw afterwards. Three iterations of two groups show how it works and improve nothing.
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch

from algorithms import start_accelerator, train
from algorithms.recipes import nft
from algorithms.recipes.post_training import build_components
from algorithms.rollouts import draw_groups
from cellenv.pictures import composite, grid

# %%
# The config
# ----------
# A recipe has presets; ``replace`` changes a field, as a flag does on the command line. ``smoke`` has groups of four
# images of two contexts.

smoke = nft.PRESETS["smoke"]
config = replace(smoke, iterations=3, output_dir=Path(mkdtemp()), trackers=(), mixed_precision="no")
print(config.rollout)
print(config.loss)

# %%
# The parts
# ---------
# Three sets of weights: *theta* is trained, *old* draws the images, *ref* is the base and never changes. The recipe
# makes the algorithm of them: how images are collected, what rows become of them, and the loss.

accelerator = start_accelerator(mixed_precision=config.mixed_precision)
components = build_components(config, accelerator)
algorithm = nft.build(components)
print(type(algorithm.loss).__name__, "reads", *algorithm.loss.in_keys)

# %%
# The loop
# --------
# ``train`` collects, scores, re-noises and updates, and writes a line of ``log.jsonl`` every iteration. It returns the
# averaged weights (EMA), which are what is evaluated and saved.

ema = train(accelerator, config, algorithm)
for line in (config.output_dir / "log.jsonl").read_text(encoding="utf-8").splitlines():
    numbers = json.loads(line)
    print({key: round(numbers[key], 4) for key in ("iteration", "reward", "kl", "pixel_diversity", "lr")})

# %%
# Before and after
# ----------------
# The same contexts and the same noise, drawn by the base and by the averaged weights. After three small steps the
# difference is hardly visible, which is what a stable start looks like.

contexts = draw_groups(components.data, range(6), 1, seed=1, iteration=0)
inputs = contexts["x0"], contexts["condition"], contexts["seed"]
with ema.swapped(components.theta), torch.no_grad():
    after = components.theta.eval().sample(*inputs)[0]
before = components.ref.eval().sample(*inputs)[0]
rows = [composite(images) for images in (contexts["x0"], before, after)]

plt.figure(figsize=(9, 4.6), layout="constrained")
plt.imshow(grid(rows, ["control", "before", "after"]))
plt.axis("off")
plt.show()

# %%
# For the real thing, ``cellfluxrl train nft`` trains 60 iterations of 144 images and evaluates the result beside its
# base and real cells.
