"""The TorchRL tutorial: its edits, its gradient, and that it learns for each compound."""

import itertools
import warnings
from functools import partial

import pytest
import torch
from torchrl.envs import Compose, TransformedEnv

from cellenv import SyntheticCells, VirtualCellEnv
from rewards.transforms import ImageReward, WeightedSum
from tests.algorithms.nft_toys import DATA

with warnings.catch_warnings():  # of TorchRL, when its collectors are imported
    warnings.filterwarnings("ignore", "Creating .* WeightUpdaterBase", DeprecationWarning)
    from examples import reinforce as tutorial
    from examples.reinforce import SCALE, ReinforceConfig, build_actor, build_collector, edit, reinforce


def opposite_tastes():
    """Bright images for mechanisms of even number, dark ones for odd."""

    def score(images, moa):
        return images.flatten(1).mean(1) * (1 - 2 * (moa % 2))

    return Compose(ImageReward("taste", score, in_keys=("action", "moa")), WeightedSum({"taste": 1.0}))


def rewarded_env(images: int) -> TransformedEnv:
    env = VirtualCellEnv(SyntheticCells("test"), batch_size=images, group_size=4, seed=0)
    return TransformedEnv(env, opposite_tastes())


def small_env(seed: int) -> TransformedEnv:
    return TransformedEnv(VirtualCellEnv(DATA, batch_size=8, group_size=4, seed=seed), opposite_tastes())


@pytest.fixture(params=[False, True], ids=["processes", "ray"])
def ray(request):
    """Whether the processes that draw are actors of a small cluster."""
    if request.param:
        ray = pytest.importorskip("ray")
        ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield request.param
    if request.param:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_new_weights_reach_the_processes_that_draw(ray):
    config = ReinforceConfig(iterations=2, groups=4, group_size=4, ray=ray)
    actor = build_actor(DATA.conditions.shape[1])
    collector = build_collector([partial(small_env, seed) for seed in range(2)], actor, config)
    batches = iter(collector)
    first = next(batches).reshape(-1).clone()
    means = torch.tensor([0.1, 0.2, 0.3, 0.4])
    with torch.no_grad():
        actor[0].module.mean.bias.copy_(means)
    collector.update_policy_weights_()
    second = next(batches).reshape(-1).clone()
    collector.shutdown()
    assert first.shape == second.shape == (16,) and len(first["group"].unique()) == 4  # two of each process
    assert torch.equal(first["loc"], torch.zeros(16, 4)) and torch.equal(second["loc"], means.expand(16, 4))


def test_zero_parameters_leave_the_image():
    x0 = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(edit(x0, torch.zeros(2, 4)), x0, rtol=0, atol=1e-5)


def test_zoom_enlarges_and_gain_brightens_its_own_stain():
    axis = torch.linspace(-1, 1, 65)
    disk = torch.where(axis[:, None] ** 2 + axis**2 < 0.25, 0.0, -1.0).expand(1, 3, -1, -1)  # intensity 1 inside
    for log_zoom in (0.3, -0.3):
        area = (edit(disk, torch.tensor([[log_zoom, 0.0, 0, 0]])) > -0.5).sum() / (disk > -0.5).sum()
        assert area.log().item() == pytest.approx(2 * log_zoom, abs=0.08)
    intensity = edit(disk, torch.tensor([[0.0, 0.0, 0.5, -0.5]])).amax((2, 3)) + 1
    torch.testing.assert_close(intensity, torch.tensor([[0.0, 0.5, -0.5]]).exp())
    assert edit(disk, torch.full((1, 4), 2.0)).max() == 1


@pytest.mark.usefixtures("seeded")
def test_it_learns_what_each_compound_wants():
    config = ReinforceConfig(iterations=11, groups=12, group_size=4, minibatch_size=24, learning_rate=0.01)
    rewards = list(reinforce(rewarded_env(48), config))
    assert len(rewards) == 11
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.15


@pytest.fixture
def recorded(monkeypatch, seeded):
    """Each iteration: the batch that entered the buffer, the minibatches it gave, and the bias gradient of each."""
    recorded, extend, sample = [], tutorial.ReplayBuffer.extend, tutorial.ReplayBuffer.sample

    class Adam(torch.optim.Adam):
        def step(self):
            recorded[-1]["gradients"].append(self.param_groups[0]["params"][1].grad.clone())
            super().step()

    def recorded_extend(buffer, rows):
        recorded.append({"batch": rows, "minibatches": [], "gradients": []})
        return extend(buffer, rows)

    def recorded_sample(buffer):
        recorded[-1]["minibatches"].append(sample(buffer))
        return recorded[-1]["minibatches"][-1]

    monkeypatch.setattr(tutorial.ReplayBuffer, "extend", recorded_extend)
    monkeypatch.setattr(tutorial.ReplayBuffer, "sample", recorded_sample)
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    config = ReinforceConfig(iterations=3, groups=3, group_size=4, minibatch_size=4, learning_rate=0.0)
    list(reinforce(rewarded_env(12), config))
    return recorded


def test_every_edit_of_the_newest_batch_is_used_once(recorded):
    assert [len(iteration["minibatches"]) for iteration in recorded] == [3, 3, 3]
    for iteration in recorded:
        whole = iteration["batch"]["parameters"]
        used = torch.cat([rows["parameters"] for rows in iteration["minibatches"]])
        assert torch.equal(*(x[x[:, 0].argsort()] for x in (whole, used)))
        assert iteration["batch"]["advantage"].reshape(3, 4).sum(1).abs().max() < 1e-5  # minus the mean of the group
    pairs = itertools.pairwise(recorded)
    assert not any(torch.equal(a["batch"]["parameters"], b["batch"]["parameters"]) for a, b in pairs)


def test_the_gradient_is_that_of_reinforce(recorded):
    """The means stay 0, so d log p / d mean = parameters / scale^2."""
    for iteration in recorded:
        for rows, gradient in zip(iteration["minibatches"], iteration["gradients"], strict=True):
            expected = -(rows["advantage"][:, None] * rows["parameters"]).mean(0) / SCALE**2
            torch.testing.assert_close(gradient, expected)


@pytest.mark.usefixtures("seeded")
def test_the_command_prints_every_iteration(monkeypatch, capsys):
    monkeypatch.setattr(tutorial, "cellflux_rewards", opposite_tastes)
    tutorial.main(tutorial.PRESETS["smoke"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("iteration")]
    assert [line.split(":")[0] for line in lines] == ["iteration   0", "iteration   1"]
