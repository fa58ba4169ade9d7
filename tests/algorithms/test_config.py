from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from algorithms.config import (
    DataConfig,
    EvalConfig,
    FolderConfig,
    MatchingLossConfig,
    OldPolicyRolloutConfig,
    OptimConfig,
    PostTrainingConfig,
    RenoiseConfig,
    RenoisedConfig,
    RewardConfig,
    RolloutConfig,
    SDEConfig,
    SDERolloutConfig,
    SegmenterConfig,
    TrainingEvalConfig,
    TrainingRewardConfig,
    check_models_of_data,
    presets,
)
from algorithms.evaluation.best_of_n import BestOfNConfig
from algorithms.evaluation.evaluate import EvaluateConfig
from algorithms.evaluation.generate import GenerateConfig
from algorithms.evaluation.score import ScoreConfig
from algorithms.recipes import ALGORITHMS
from algorithms.recipes.base import BaseConfig, BaseOptimConfig, ValidationConfig
from algorithms.recipes.fit.classifier import ClassifierConfig
from algorithms.recipes.fit.reference import ReferenceConfig
from algorithms.recipes.fit.segmenter import SegmenterFitConfig
from algorithms.recipes.ppo import PPOConfig, PPOLossConfig
from algorithms.recipes.rft import RFTConfig
from algorithms.train_config import DistributedConfig
from cellenv.data.layouts import LAYOUTS
from rewards.suite import SHAPINGS


def choices(config: type, field: str) -> tuple[str, ...]:
    return get_args(get_type_hints(config)[field])


def test_choices_are_those_of_the_library():
    assert choices(FolderConfig, "layout") == tuple(LAYOUTS)
    assert choices(RewardConfig, "shaping") == tuple(SHAPINGS)


def test_embedded_world_takes_no_option_of_a_folder():
    with pytest.raises(ValueError, match="need --data DIR for --skip-bad, --include-unseen"):
        DataConfig(skip_bad=True, include_unseen=True)


def test_unknown_segmenter_and_weights_without_cellpose_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"need --segmenter embedded, classical, cellpose, or a path.*got 'clasical'"):
        SegmenterConfig(segmenter="clasical")
    with pytest.raises(ValueError, match="weights are for --segmenter cellpose; classical takes none"):
        SegmenterConfig(segmenter="classical", cell_weights="cyto3")
    assert SegmenterConfig(segmenter=str(tmp_path)).segmenter == str(tmp_path)


def test_own_cells_need_own_models():
    check_models_of_data(DataConfig(), RewardConfig(), EvalConfig())
    own = DataConfig(path=Path("cells"))
    with pytest.raises(ValueError, match="--data needs --classifier, --reference too"):
        check_models_of_data(own, RewardConfig(), EvalConfig(judge=Path("judge")))
    rewards = TrainingRewardConfig(classifier=Path("classifier"), reference=Path("reference"))
    with pytest.raises(ValueError, match="--data needs --judge too"):
        PostTrainingConfig(output_dir=Path("out"), data=own, reward=rewards)
    check_models_of_data(own, rewards, EvalConfig(judge=Path("judge")))
    for unlabelled in (DataConfig(path=Path("cells"), unlabelled=True), DataConfig(path=Path("cells"), layout="jump")):
        check_models_of_data(unlabelled, RewardConfig(reference=Path("reference")), EvalConfig())
        with pytest.raises(ValueError, match="--data needs --reference too"):
            check_models_of_data(unlabelled, RewardConfig(), EvalConfig())


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("iterations", {"iterations": 0}),
        ("save_every", {"save_every": 0}),
        ("groups", {"rollout": RolloutConfig(groups=0)}),
        ("group_size", {"rollout": RolloutConfig(group_size=1)}),
        ("micro_batch_size", {"optim": OptimConfig(micro_batch_size=0)}),
        ("warmup_iterations", {"optim": OptimConfig(warmup_iterations=-1)}),
        ("seed", {"seed": -1}),
        ("lora_rank", {"lora_rank": -1}),
        ("contexts", {"eval": TrainingEvalConfig(contexts=0)}),
    ],
)
def test_numbers_out_of_range_are_refused(name, changed):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        PostTrainingConfig(output_dir=Path("out"), **changed)
    PostTrainingConfig(output_dir=Path("out"), optim=OptimConfig(warmup_iterations=0), lora_rank=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cooldown", -0.1), ("cooldown", 1.5), ("ema_decay", 1.0), ("learning_rate", -1.0), ("max_grad_norm", 0.0)],
)
def test_settings_of_the_optimizer_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .* got {value}"):
        PostTrainingConfig(output_dir=Path("out"), optim=OptimConfig(**{name: value}))
    with pytest.raises(ValueError, match=rf"{name} must be .* got {value}"):
        BaseConfig(optim=BaseOptimConfig(**{name: value}))


def test_noisy_steps_are_rows_of_optimizer_steps():
    settings = {"output_dir": Path("out"), "rollout": SDERolloutConfig(group_size=4, sde_window=(1, 3))}
    SDEConfig(optim=OptimConfig(optimizer_steps=8), **settings)
    with pytest.raises(ValueError, match="optimizer_steps must be at most 8, the rows of a group; got 9"):
        SDEConfig(optim=OptimConfig(optimizer_steps=9), **settings)


def test_the_rate_of_a_critic_is_above_0():
    with pytest.raises(ValueError, match="critic_learning_rate must be above 0, got 0"):
        PPOConfig(loss=PPOLossConfig(critic_learning_rate=0))


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("train_on must be from 2 to group_size, 12; got 1", {"rollout": OldPolicyRolloutConfig(train_on=1)}),
        ("train_on must be from 2 to group_size, 12; got 13", {"rollout": OldPolicyRolloutConfig(train_on=13)}),
        ("times_per_sample must be at least 1, got 0", {"renoise": RenoiseConfig(times_per_sample=0)}),
        ("t_max must be above 0 and below 1, got 1.0", {"renoise": RenoiseConfig(t_max=1.0)}),
        ("t_max must be above 0 and below 1, got 0.0", {"renoise": RenoiseConfig(t_max=0.0)}),
        (
            "t-max bounds uniform times; got --renoise.times rollout",
            {"renoise": RenoiseConfig(t_max=0.8, times="rollout")},
        ),
        ("pretraining_weight must be at least 0, got -1", {"loss": MatchingLossConfig(pretraining_weight=-1)}),
        ("decay_slope must be at least 0, got -0.1", {"rollout": OldPolicyRolloutConfig(decay_slope=-0.1)}),
        ("decay_most must be from 0 to 1, got 1.5", {"rollout": OldPolicyRolloutConfig(decay_most=1.5)}),
        (
            "optimizer_steps must be at most 8, the rows of a group; got 9",
            {"rollout": OldPolicyRolloutConfig(train_on=4), "optim": OptimConfig(optimizer_steps=9)},
        ),
    ],
)
def test_settings_of_re_noising_out_of_range_are_refused(message, changed):
    with pytest.raises(ValueError, match=message):
        RenoisedConfig(output_dir=Path("out"), **changed)
    RenoisedConfig(output_dir=Path("out"), rollout=OldPolicyRolloutConfig(train_on=12))


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("workers >= 0 and timeout > 0, got -1 and", {"workers": -1}),
        ("workers >= 0 and timeout > 0, got 1 and 0", {"workers": 1, "timeout": 0}),
        ("--reward.workers N for --reward.worker-device, --reward.ray:", {"worker_device": "cuda", "ray": "local"}),
        ("--reward.workers N for --reward.timeout:", {"timeout": 5.0}),
    ],
)
def test_settings_of_reward_workers_that_have_no_effect_are_refused(message, fields):
    with pytest.raises(ValueError, match=message):
        TrainingRewardConfig(**fields)
    TrainingRewardConfig(on_failure="nan")


def test_workers_on_another_machine_take_no_core_of_this_one():
    where = {None: 2, "local": 2, "ray://head:10001": 0}
    assert {ray: TrainingRewardConfig(workers=2, ray=ray).processes for ray in where} == where


@pytest.mark.parametrize("name", ALGORITHMS)
def test_presets_of_a_recipe_differ_in_length_and_the_rate_of_long_nft(name):
    found = import_module(ALGORITHMS[name]).PRESETS
    default, smoke, long = (found[key] for key in ("default", "smoke", "long"))
    assert smoke.iterations == 2 < default.iterations < long.iterations
    assert {type(config) for config in found.values()} == {type(default)} and default.output_dir == Path("runs", name)
    assert len({config.output_dir for config in found.values()}) == 3
    rate = replace(default.optim, learning_rate=4e-4) if name == "nft" else default.optim
    same = {"iterations": 1, "output_dir": Path("x")}
    assert replace(long, **same) == replace(default, optim=rate, **same)
    assert (smoke.optim, smoke.reward) == (default.optim, default.reward)
    shorter = {"critic_warmup": smoke.loss.critic_warmup} if name == "ppo" else {}  # than two iterations
    assert smoke.loss == replace(default.loss, **shorter)
    assert type(smoke.rollout) is type(default.rollout)


def test_presets_keep_the_fields_of_the_default():
    default = PostTrainingConfig(output_dir=Path("a/b"), rollout=RolloutConfig(batch_size=7), seed=3)
    found = presets(default)
    assert found["default"] is default
    assert (found["smoke"].seed, found["smoke"].rollout.batch_size, found["smoke"].output_dir) == (
        3,
        7,
        Path("a/b-smoke"),
    )


def test_rejection_selects_by_itself():
    with pytest.raises(ValueError, match=r"rft trains on the --loss\.keep best.*leave out --rollout\.train-on"):
        RFTConfig(rollout=OldPolicyRolloutConfig(train_on=4))


def test_rejection_keeps_no_more_than_a_group_has():
    with pytest.raises(ValueError, match="keep must be from 1 to group_size, 2; got 3"):
        RFTConfig(rollout=OldPolicyRolloutConfig(group_size=2))


@pytest.mark.parametrize("wrong", [{"save_every": 0}, {"validation": ValidationConfig(draw_every=0)}, {"steps": 0}])
def test_a_base_needs_positive_numbers(wrong):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        BaseConfig(**wrong)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        BaseConfig(seed=-1)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_processes_wait_for_a_number_of_seconds(timeout):
    with pytest.raises(ValueError, match=r"distributed.timeout must be a number of seconds above 0"):
        DistributedConfig(timeout=timeout)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (EvaluateConfig, {"batch_size": 0}),
        (EvaluateConfig, {"group_size": 0}),
        (EvaluateConfig, {"eval": EvalConfig(contexts=1)}),
        (BestOfNConfig, {"batch_size": 0}),
        (BestOfNConfig, {"eval": EvalConfig(contexts=1)}),
        (GenerateConfig, {"contexts": 0}),
        (ScoreConfig, {"batch_size": 0}),
        (ScoreConfig, {"limit": 0}),
        (ClassifierConfig, {"batch_size": 0}),
        (ReferenceConfig, {"batch_size": -1}),
        (SegmenterFitConfig, {"scenes": 0}),
    ],
)
def test_what_would_end_a_run_late_is_refused_at_once(config, wrong):
    name, bound = ("contexts", 2) if "eval" in wrong else (next(iter(wrong)), 1)
    with pytest.raises(ValueError, match=f"{name} must be at least {bound}"):
        config(**wrong)
