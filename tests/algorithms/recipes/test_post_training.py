"""The NFT recipe on a tiny generator: what a run leaves, controls, resuming, LoRA, a user's reward in the report."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from accelerate.state import AcceleratorState
from tensordict import TensorDict

from algorithms.advantages import normalised_rewards
from algorithms.collapse import CollapseMonitor, Sign
from algorithms.command_line import parse
from algorithms.config import OldPolicyRolloutConfig, SDERolloutConfig, TrainingEvalConfig
from algorithms.launch import start_accelerator
from algorithms.recipes import grpo, nft, post_training
from algorithms.recipes.nft import NFTConfig, NFTLossConfig
from algorithms.recipes.post_training import (
    build_components,
    evaluation_contexts,
    learning_signal,
)
from algorithms.workers.scorer import RewardError
from cellenv.generator import CellFlux, Sampling
from rewards import WEIGHTS
from tests.algorithms.recipes.recipe_toys import check_flags, check_training, weights

SAMPLING = Sampling(steps=2, noise_level=0.5)


@pytest.fixture
def run(runner):
    return runner(nft, SAMPLING)


def test_a_run_leaves_a_model_logs_pictures_and_an_evaluation(run, tmp_path, capsys):
    trained = run.run("run", "--save-every 1 --show-every 1 --trackers tensorboard")
    models, cells, given = run.evaluated[0]
    assert list(models) == ["base", "rl"] and cells.split == "test" and given["config"]["preset"] == "default"
    assert given["options"].contexts == 16 and given["config"]["optim.learning_rate"] == 0.01
    assert torch.equal(weights(run.base), flat(models["base"])) and torch.equal(trained, flat(models["rl"]))
    assert not torch.equal(trained, weights(run.base))
    assert [line["iteration"] for line in run.log("run")] == [0, 1] and "rewards/bright/mean" in run.log("run")[0]
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == ["000001.png", "000002.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["000001.pt", "000002.pt"]
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert "seconds an iteration: rollout" in capsys.readouterr().out


def flat(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_mistakes_are_found_before_a_finished_run_is_moved_aside(run, tmp_path, capsys):
    once = "--iterations 1"
    first = run.run("run", once)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for flags, error, message in [
        ("--generator embeded", FileNotFoundError, "no generator at embeded"),
        ("--eval.base bsae", FileNotFoundError, "--eval.base bsae: no generator at bsae"),
        ("--contexts 600", ValueError, "need 600 pairs"),
        ("--resume --beta 0.5", ValueError, r"loss\.beta=0\.1, now 0\.5"),
        (f"--resume --reward other={run.folder / 'mine.py'}:brightness", ValueError, r"reward\.terms="),
    ]:
        with pytest.raises(error, match=message):
            run.run("run", f"{once} {flags}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    second = run.run("run", f"{once} --seed 1")
    assert torch.equal(weights(tmp_path / "run.1" / "model"), first) and not torch.equal(first, second)
    assert len(run.log("run")) == len(run.log("run.1")) == 1
    assert "held another run" in capsys.readouterr().out


def test_resuming_in_another_precision_is_refused(run, fresh_accelerate):
    run.run("run", "--iterations 1")
    AcceleratorState._reset_state(True)
    with pytest.raises(ValueError, match="mixed_precision=no, now bf16"):
        run.run("run", "--resume --mixed-precision bf16")


def test_training_draws_without_guidance(run, tmp_path):
    generator = CellFlux.from_pretrained(run.base)
    generator.guidance = 0.5
    generator.save_pretrained(tmp_path / "guided")
    run.base = tmp_path / "guided"
    run.run("run", "--iterations 1")
    models = run.evaluated[0][0]
    assert (models["base"].guidance, models["rl"].guidance) == (0.5, 0.0)


def test_rewards_computed_by_a_worker_train_to_the_same_weights(run):
    alone, beside = run.run("alone", "--iterations 1"), run.run("beside", "--iterations 1 --reward.workers 1")
    assert torch.equal(alone, beside)


def test_a_reward_that_fails_stops_the_run_or_is_nan(run, tmp_path):
    (tmp_path / "broken.py").write_text("def broken(images):\n    return images.reshape(-1)\n")
    flags = f"--iterations 1 --reward broken={tmp_path / 'broken.py'}:broken"
    with pytest.raises(RewardError, match=r"'broken' failed in iteration 0, samples 0 to 7: .*need a tensor of shape"):
        run.run("stopped", flags)
    run.run("going", f"{flags} --reward.on-failure nan")
    (line,) = run.log("going")
    assert line["frac_reward_nan"] == 1 and "rewards/bright/mean" in line and line["grad_norm"] > 0


def test_controls_replace_the_reward_and_name_the_row(run):
    learned = {c: run.run(c, f"--iterations 1 --control {c}") for c in ("none", "zero", "shuffled", "flipped")}
    rows = [list(models) for models, *_ in run.evaluated]
    assert rows == [["base", name] for name in ("rl", "zero-reward", "shuffled-reward", "flipped-reward")]
    assert torch.equal(learned["zero"], weights(run.base))
    different = [learned[control] for control in ("none", "zero", "shuffled", "flipped")]
    assert len({values.numpy().tobytes() for values in different}) == 4


def test_flags_of_renoising_reach_the_training(run):
    flags = [
        "--coupling group",
        "--coupling generating",
        "--times rollout",
        "--times-per-sample 1",
        "--noise-per sample",
        "--t-max 0.5",
        "--stratified",
        "--train-on 2",
        "--pretraining-weight 1",
        "--optimizer muon",
    ]
    check_flags(run, flags, "--iterations 1")


def test_a_run_with_every_lever_resumes_bit_for_bit(run):
    flags = "--cooldown 0.5 --optimizer muon --train-on 3 --t-max 0.8 --stratified --pretraining-weight 0.1"
    check_training(run, "loss_pretraining", flags)
    assert [line["lr"] for line in run.log("straight")] == pytest.approx([0.01 / 5, 0.01 * 2 / 5])


def test_compiled_networks_train_as_others_and_are_not_evaluated(run, monkeypatch):
    calls = []

    def compiled(function):
        return lambda *args, **kwargs: calls.append(function) or function(*args, **kwargs)

    plain = run.run("plain", "--iterations 1")
    monkeypatch.setattr(torch, "compile", compiled)
    assert torch.equal(run.run("compiled", "--iterations 1 --compile"), plain)
    called = {getattr(function, "__self__", None) for function in calls} - {None}
    assert len(called) == 3  # theta, old and ref
    assert all(model.network not in called for model in run.evaluated[1][0].values())


def test_a_collapse_stops_the_run_and_the_report_says_so(run, monkeypatch):
    sign = Sign(metric="reward", meaning="everything is a sign", advice="", offset=-100)
    monkeypatch.setattr(post_training, "CollapseMonitor", partial(CollapseMonitor, window=1, signs=[sign]))
    stopped = run.run("stopped", "--iterations 3 --save-every 10 --eval.stop-on-collapse")
    warned = run.run("warned", "--iterations 3 --save-every 10")
    assert [len(run.log(name)) for name in ("stopped", "warned")] == [2, 3]
    assert torch.equal(stopped, weights(run.base)) and not torch.equal(warned, stopped)
    stopped, warned = (given["config"]["signs of collapse"] for *_, given in run.evaluated)
    assert "stopped; the weights are those after 0 iterations" in stopped
    assert "reward is" in warned and "stopped" not in warned


def test_adapters_are_merged_into_the_model(run, tmp_path):
    trained = run.run("run", "--lora-rank 2")
    assert trained.shape == weights(run.base).shape and not torch.equal(trained, weights(run.base))
    state = torch.load(tmp_path / "run" / "checkpoints" / "000002.pt", weights_only=True)
    assert all("lora_" in name for name in state["parts"]["ema"]["average"])


SHARPNESS = """
def sharpness(images):
    return images.diff(dim=-1).abs().mean((1, 2, 3))
"""


def test_a_users_reward_goes_from_the_command_line_to_the_report(save_base, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SHARPNESS)
    term, out = f"sharpness={tmp_path / 'mine.py'}:sharpness:0.5", tmp_path / "run"
    where = ["--generator", str(save_base(SAMPLING)), "--output-dir", str(out), "--reward", term]
    flags = "--reward roundness=0 --preset smoke --contexts 4 --threads 1 --mixed-precision no --trackers"
    nft.main(parse(nft.PRESETS, None, [*where, *flags.split()]).config)
    for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()):
        rewards = {
            key.split("/")[1]: value for key, value in line.items() if key.startswith("rewards/") and "/mean" in key
        }
        assert rewards.keys() == WEIGHTS.keys() - {"roundness"} | {"sharpness"}
        weighted = sum((WEIGHTS | {"sharpness": 0.5})[name] * value for name, value in rewards.items())
        assert line["reward"] == pytest.approx(weighted, rel=1e-5) and rewards["sharpness"] > 0
    about = json.loads((out / "model" / "config.json").read_text())["metadata"]
    assert about["training"]["reward.terms"] == str((term, "roundness=0"))
    card = (out / "model" / "README.md").read_text()
    assert "| sharpness | 0.5 |" in card and "| roundness |" not in card and "rl − base" in card
    assert "license" not in about and about["base"] in card  # that of the base is not known
    evaluation = json.loads((out / "evaluation.json").read_text())
    reported = {reward["name"]: reward["weight"] for reward in evaluation["rewards"]}
    assert reported["sharpness"] == 0.5 and "roundness" not in reported
    for figures in (*evaluation["rows"].values(), *evaluation["paired"].values()):
        (low, high), mean = figures["sharpness"]["ci"], figures["sharpness"]["mean"]
        assert low <= mean <= high and "roundness" not in figures and "w1_roundness" not in figures
    html = (out / "evaluation.html").read_text()
    assert "<td>sharpness</td>" in html and "<td>roundness</td>" not in html and "Further rewards" in html
    assert "sharpness" in capsys.readouterr().out


@pytest.fixture
def components(save_base, own_reward):
    """Return a function from a recipe's fields to its components."""

    def make(config):
        config = replace(config, generator=str(save_base(SAMPLING)), reward=replace(config.reward, terms=own_reward))
        return build_components(config, start_accelerator(threads=1))

    return make


def test_models_start_equal_and_share_no_memory(components):
    found = components(NFTConfig(lora_rank=2))
    theta, old, ref = found.models
    addresses = [{value.data_ptr() for value in model.state_dict().values()} for model in (theta, old, ref)]
    assert addresses[0].isdisjoint(addresses[1]) and (addresses[0] | addresses[1]).isdisjoint(addresses[2])
    assert all(torch.equal(a, b) for a, b in zip(theta.state_dict().values(), old.state_dict().values(), strict=True))
    assert any("lora_" in name for name in theta.state_dict()) and not any("lora_" in name for name in ref.state_dict())


def test_parts_of_an_algorithm_follow_the_config(components):
    rollout = OldPolicyRolloutConfig(groups=3, group_size=5, batch_size=7, decay_slope=0.1, decay_most=0.25)
    algorithm = nft.build(components(NFTConfig(rollout=rollout, seed=4)))
    assert [algorithm.old_decay(i) for i in (0, 1, 2, 9)] == pytest.approx([0.0, 0.1, 0.2, 0.25])
    collect = algorithm.collect
    assert (list(collect.groups), collect.group_size, collect.batch_size, collect.seed) == ([0, 1, 2], 5, 7, 4)
    noisy = components(replace(grpo.PRESETS["default"], rollout=SDERolloutConfig(sde_window=(0, 1), eta=0.25)))
    sampler = noisy.sde_sampler()
    assert (sampler.sde_window, sampler.eta, len(sampler.times)) == ((0, 1), 0.25, SAMPLING.steps + 1)


def test_rewards_are_normalised_over_all_ranks(components):
    parts = components(NFTConfig())
    renoise = parts.renoise()
    assert renoise.gather == renoise.reward_fn.keywords["gather"] == parts.accelerator.gather


@pytest.mark.parametrize("control", ["none", "flipped"])
def test_what_is_learned_from_is_the_total_or_the_sum_of_normalised_rewards(components, control):
    total = components(NFTConfig(control=control, loss=NFTLossConfig(normalise="total")))
    each = components(NFTConfig(control=control))
    weights = {spec.name: spec.signal_weight for spec in each.rewards.specs}
    rewards = {name: torch.arange(4.0)[:, None] ** k for k, name in enumerate(weights, start=1)}
    step = {"reward": torch.tensor([[0.0], [1.0], [5.0], [3.0]]), "rewards": rewards}
    rollout = TensorDict({"group": torch.tensor([0, 0, 1, 1]), "next": step}, [4])
    sign = {"none": 1, "flipped": -1}[control]
    assert torch.equal(total.reward_fn()(rollout, 0), sign * step["reward"].squeeze(-1))
    expected = sign * normalised_rewards(rollout, 0, weights=weights)
    assert torch.equal(each.reward_fn()(rollout, 0), expected) and expected.abs().sum() > 0


def test_the_report_says_what_was_learned_from():
    log = [{"signal_share/a": 0.25, "signal_share/b": 0.75}]
    assert learning_signal(log) == {"shares of the learning signal": "a 25%, b 75%"}
    assert learning_signal([{"reward": 1.0}]) == {}


def test_more_contexts_than_the_embedded_world_has_are_refused():
    config = NFTConfig(rollout=OldPolicyRolloutConfig(groups=1), eval=TrainingEvalConfig(contexts=600))
    with pytest.raises(ValueError, match="need 600 pairs"):
        evaluation_contexts(config)
    cells, contexts = evaluation_contexts(replace(config, eval=TrainingEvalConfig(contexts=30)))
    assert cells.split == "test" and contexts == 30
