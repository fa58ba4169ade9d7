"""Two gloo processes on a CPU equal one process on the same global batch."""

import json

import pytest
import torch

from algorithms.checkpoint import list_checkpoints
from algorithms.launch import start_accelerator
from tests.algorithms.ddp_toys import toy_ppo_run
from tests.algorithms.nft_toys import toy_gradient, toy_run
from tests.algorithms.sde_toys import toy_ppo
from tests.algorithms.torchrun import torchrun

pytestmark = pytest.mark.slow  # starts two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of both ranks, and the folder of their run."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(2, "tests.algorithms.ddp_toys", folder, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)], folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Gradient, loss module and folder of a single process, and its PPO."""
    folder = tmp_path_factory.mktemp("one")
    accelerator = start_accelerator(threads=1)
    ppo = toy_ppo_run(folder / "ppo", accelerator)
    return toy_gradient(accelerator), toy_run(folder, accelerator), folder, ppo


def test_two_processes_have_the_gradient_of_one(one, two):
    for rank in two[0]:
        assert rank["ranks"] == 2
        error = (rank["gradient"] - one[0]).norm() / one[0].norm()
        assert error < 1e-5


def test_theta_old_and_ref_are_equal_on_both_ranks(two):
    first, second = (rank["weights"] for rank in two[0])
    assert {name.split(".")[0] for name in first} == {"model", "model_old", "model_ref"}
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_two_processes_train_as_one(one, two):
    weights = one[1].state_dict()
    for name, value in two[0][0]["weights"].items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)
    assert not torch.equal(weights["model.outer.weight"], weights["model_ref.outer.weight"])


def test_two_processes_train_an_actor_and_a_critic_as_one(one, two):
    """Epochs, minibatches, running statistics and the critic's updates are those of one process."""
    start, weights = toy_ppo().loss.state_dict(), one[3].state_dict()
    first, second = (rank["ppo"] for rank in two[0])
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)
    assert weights["ppo.returns.moments.count"].sum() > 64 and weights["critic.critic.value_head.weight"].norm() > 0
    key = "policy.generator.network.outer.weight"
    assert not torch.equal(weights[f"ppo.{key}"], start[key])


def test_two_processes_log_what_one_does(one, two):
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one[2], two[1])]
    assert len(logs[0]) == len(logs[1]) == 6
    for of_one, of_two in zip(*logs, strict=True):
        for key in ("reward", "reward_std", "rewards/bright/mean", "loss_nft", "loss_kl", "grad_norm", "drift"):
            assert of_one[key] == pytest.approx(of_two[key], rel=2e-3, abs=1e-6), key


def test_nan_on_one_rank_stops_both_and_is_saved_by_the_one_that_has_it(two):
    messages = [rank["nan"] for rank in two[0]]
    assert all("step 0: the gradient is nan" in message for message in messages)
    assert "no row of this process" in messages[0] and "the 2 rows that make it so" in messages[1]
    assert sorted(path.name for path in (two[1] / "nan" / "nonfinite").iterdir()) == [
        "000000-1.json",
        "000000-1.safetensors",
    ]


def test_a_signal_to_one_rank_stops_both_after_the_same_iteration(two):
    assert [rank["exit"] for rank in two[0]] == [143, 143]
    assert all(rank["grouped"] for rank in two[0])  # left while DDP lives, it may hang: `run_and_leave`
    assert len((two[1] / "stopped" / "log.jsonl").read_text().splitlines()) == 3
    assert [path.name for path in list_checkpoints(two[1] / "stopped" / "checkpoints")] == ["000002.pt", "000003.pt"]
