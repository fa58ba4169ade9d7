"""
The Gymnasium benchmark
=======================

No knowledge of cells is needed: an agent sees four images of one context and chooses the best. The reward of a choice
is computed from segmented images and has no gradient.
"""

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from cellenv.images import CHANNELS

env = gymnasium.make("cellenv:cellenv/Select-v0", candidates=4, render_mode="rgb_array")
observation, info = env.reset(seed=0)
for name, value in observation.items():
    print(name, value.shape, value.dtype)

# %%
# One step
# --------
# Every step ends its episode. The parts of the reward are in ``info``.

observation, reward, terminated, truncated, info = env.step(2)
print(f"reward {reward:.2f}, of which", {name: round(float(part), 2) for name, part in info["rewards"].items()})

plt.figure(figsize=(4, 4), layout="constrained")
plt.imshow(env.render())
plt.axis("off")
plt.show()

# %%
# A batch of environments
# -----------------------
# ``make_vec`` draws and scores all contexts at once, and resets within the step. The agent here takes the image with
# the most DNA stain; is that a good rule?

envs = gymnasium.make_vec("cellenv:cellenv/Select-v0", num_envs=4, candidates=4)
observations, _ = envs.reset(seed=1)
rewards = []
for _ in range(2):
    brightness = observations["candidates"][:, :, CHANNELS.index("DNA")].mean((2, 3))  # (4 environments, 4 candidates)
    observations, reward, *_ = envs.step(brightness.argmax(1))
    rewards.append(reward)
print(f"mean reward {np.mean(rewards):.2f}")
