from dataclasses import replace

import pytest

from algorithms.config import (
    OldPolicyRolloutConfig,
    RenoiseConfig,
    SDERolloutConfig,
    TrainingEvalConfig,
    TrainingRewardConfig,
)
from algorithms.estimate import Estimate
from algorithms.recipes import iteration_cost, nft, ppo
from algorithms.recipes.iteration_cost import estimate_post_training
from cellenv.generator import Sampling

STEPS, TIMES = 2, 2


@pytest.fixture
def config(save_base, own_reward, monkeypatch):
    """Nothing is evaluated; the evaluation costs 1000 evaluations and 100 seconds."""
    evaluation = Estimate(nfe=1000, seconds=100.0, memory=0)
    monkeypatch.setattr(iteration_cost, "estimate_evaluation", lambda *_: evaluation)
    base = str(save_base(Sampling(steps=STEPS)))
    return replace(
        nft.PRESETS["smoke"],
        generator=base,
        threads=1,
        mixed_precision="no",
        reward=TrainingRewardConfig(terms=own_reward),
        rollout=OldPolicyRolloutConfig(groups=2, group_size=2, batch_size=4),
        renoise=RenoiseConfig(times_per_sample=TIMES),
        loss=nft.NFTLossConfig(kl_share=1.0),
        eval=TrainingEvalConfig(contexts=4),
    )


def cost(images):
    """Sampler steps; for each row theta forward and backward, old and reference."""
    return images * STEPS + images * TIMES * (1 + 2 + 1 + 1)


def test_cost_of_two_iterations_is_scaled_to_all_groups_and_iterations(config):
    estimate = estimate_post_training(config, nft.build)
    assert estimate.nfe == 1000 + 2 * cost(4) and estimate.seconds > 100 and estimate.memory > 2**20
    longer = replace(config, iterations=50, rollout=replace(config.rollout, groups=6))  # measured on 2 groups
    assert estimate_post_training(longer, nft.build).nfe == 1000 + 50 * cost(12)


def test_a_critics_warmup_counts_as_iterations_like_others(config):
    shared = {name: getattr(config, name) for name in ("generator", "threads", "mixed_precision", "reward", "eval")}
    rollout = SDERolloutConfig(groups=2, group_size=2, batch_size=4, sde_window=(0, 1))
    optim = replace(ppo.PRESETS["smoke"].optim, optimizer_steps=1, epochs=3)
    with_critic = replace(ppo.PRESETS["smoke"], rollout=rollout, optim=optim, **shared)
    assert with_critic.loss.critic_warmup == 1
    nfe = 4 * STEPS + 3 * 4 * (1 + 2 + 1)  # theta forward and backward, and reference, for the noisy step of each image
    assert estimate_post_training(with_critic, ppo.build).nfe == 1000 + 2 * nfe


def test_an_estimate_leaves_nothing_behind(config, tmp_path):
    estimate_post_training(replace(config, output_dir=tmp_path / "run"), nft.build)
    assert not (tmp_path / "run").exists()


def test_memory_is_named_by_what_takes_it(config):
    memory = estimate_post_training(config, nft.build).training
    assert memory.states["theta"] == memory.states["old"] == memory.states["reference"] > 0
    assert 2 * memory.states["theta"] < memory.states["optimizer"] < 2.1 * memory.states["theta"]
    assert memory.activations > 0 and "average (EMA)" in str(Estimate(nfe=0, seconds=0.0, memory=0, training=memory))
