"""The TorchRL example: its edits, that it learns for each compound, and that the command runs."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from torchrl.envs import Compose, TransformedEnv

from cellenv import SyntheticCells, VirtualCellEnv
from rewards.transforms import ImageReward, WeightedSum

pytestmark = pytest.mark.filterwarnings("ignore:Creating .* WeightUpdaterBase:DeprecationWarning")  # TorchRL's import


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import reinforce

    return reinforce


def taste():
    """Bright images for mechanisms of even number, dark ones for odd."""

    def score(images, moa):
        return images.flatten(1).mean(1) * (1 - 2 * (moa % 2))

    return Compose(ImageReward("taste", score, in_keys=("action", "moa")), WeightedSum({"taste": 1.0}))


def test_knobs_at_zero_leave_the_image(script):
    x0 = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(script.edit(x0, torch.zeros(2, 4)), x0, rtol=0, atol=1e-5)


def test_zoom_enlarges_and_gain_brightens_its_own_stain(script):
    axis = torch.linspace(-1, 1, 65)
    disk = torch.where(axis[:, None] ** 2 + axis**2 < 0.25, 0.0, -1.0).expand(1, 3, -1, -1)  # light 1 inside
    for log_zoom in (0.3, -0.3):
        area = (script.edit(disk, torch.tensor([[log_zoom, 0.0, 0, 0]])) > -0.5).sum() / (disk > -0.5).sum()
        assert area.log().item() == pytest.approx(2 * log_zoom, abs=0.08)
    brighter = script.edit(disk, torch.tensor([[0.0, 0.0, 0.5, -0.5]])).amax((2, 3)) + 1
    torch.testing.assert_close(brighter, torch.tensor([[0.0, 0.5, -0.5]]).exp())
    assert script.edit(disk, torch.full((1, 4), 2.0)).max() == 1


def test_it_learns_what_each_compound_wants(script):
    config = script.Config(iterations=11, groups=12, group_size=4, minibatch=24, learning_rate=0.01)
    env = VirtualCellEnv(SyntheticCells("test"), batch_size=48, group_size=4, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rewards = list(script.reinforce(TransformedEnv(env, taste()), config))
    assert len(rewards) == 11
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.15


@pytest.fixture
def watched(script, monkeypatch):
    """Each iteration: what went into the buffer, the minibatches that came out, and the bias gradient of each."""
    seen, extend, sample = [], script.ReplayBuffer.extend, script.ReplayBuffer.sample

    class Adam(torch.optim.Adam):
        def step(self):
            seen[-1]["gradients"].append(self.param_groups[0]["params"][1].grad.clone())
            super().step()

    def noted(buffer, rows):
        seen.append({"whole": rows, "parts": [], "gradients": []})
        return extend(buffer, rows)

    monkeypatch.setattr(script.ReplayBuffer, "extend", noted)
    monkeypatch.setattr(
        script.ReplayBuffer, "sample", lambda self: seen[-1]["parts"].append(sample(self)) or seen[-1]["parts"][-1]
    )
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    config = script.Config(iterations=3, groups=3, group_size=4, minibatch=4, learning_rate=0.0)
    env = VirtualCellEnv(SyntheticCells("test"), batch_size=12, group_size=4, seed=0)
    with torch.random.fork_rng():
        list(script.reinforce(TransformedEnv(env, taste()), config))
    return seen


def test_every_edit_of_the_newest_batch_is_taken_once(watched):
    assert [len(batch["parts"]) for batch in watched] == [3, 3, 3]
    for batch in watched:
        whole, taken = batch["whole"]["knobs"], torch.cat([rows["knobs"] for rows in batch["parts"]])
        assert torch.equal(*(x[x[:, 0].argsort()] for x in (whole, taken)))
        assert batch["whole"]["advantage"].reshape(3, 4).sum(1).abs().max() < 1e-5  # less the mean of the group
    assert not any(torch.equal(a["whole"]["knobs"], b["whole"]["knobs"]) for a, b in itertools.pairwise(watched))


def test_the_gradient_is_that_of_reinforce(script, watched):
    """The means stay 0, so that d log p / d mean = knobs / spread^2."""
    for batch in watched:
        for rows, gradient in zip(batch["parts"], batch["gradients"], strict=True):
            expected = -(rows["advantage"][:, None] * rows["knobs"]).mean(0) / script.SPREAD**2
            torch.testing.assert_close(gradient, expected)


def test_command_prints_every_iteration(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "cellflux_rewards", taste)
    with torch.random.fork_rng():
        script.main(script.PRESETS["smoke"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("iteration")]
    assert [line.split(":")[0] for line in lines] == ["iteration   0", "iteration   1"]


def test_help_needs_no_heavy_import(request):
    command = [sys.executable, "-X", "importtime", "examples/reinforce.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--minibatch" in done.stdout and "torch" not in done.stderr
