"""The README's Python runs as it stands, and its recipe for a reward stays short."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = dict(zip(("minute", "reward", "benchmark"), re.findall(r"```python\n(.*?)```", README, re.S), strict=True))


def run(name: str) -> dict:
    scope = {}
    torch.manual_seed(0)
    exec(compile(BLOCKS[name], f"README.md ({name})", "exec"), scope)
    return scope


def test_in_a_minute():
    step = run("minute")["step"]
    assert step["action"].shape == (8, 3, 96, 96) and step["next", "reward"].isfinite().all()
    assert torch.equal(step["group"], torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))


def test_add_a_reward_in_twenty_lines():
    assert len([line for line in BLOCKS["reward"].splitlines() if line]) <= 20
    scope = run("reward")
    assert scope["reward"].shape == (4, 1) and scope["reward"].isfinite().all()
    ramp = torch.linspace(-1, 1, 3).expand(2, 3, 4, 3)
    assert scope["sharpness"](ramp).tolist() == pytest.approx([1.0, 1.0])


def test_benchmark():
    scope = run("benchmark")
    assert 0 <= scope["info"]["rewards"]["containment"] <= 1 and scope["terminated"]
    assert scope["envs"].num_envs == 64
