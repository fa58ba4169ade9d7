"""Runs within a budget of network evaluations, on a tiny generator and a brightness reward."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from algorithms.recipes.nft import PRESETS as NFT_PRESETS
from algorithms.trainer import train
from cellenv.generator import CellFlux, Sampling
from examples.studies import equal_cost
from examples.studies.comparison_config import Candidate, ComparisonConfig
from examples.studies.equal_cost import ComparisonRunner, run_all
from examples.studies.results import load_csv
from tests.examples.studies.comparison_toys import BRIGHT_ONLY, evaluator

STEPS, IMAGES = 4, 8  # of the sampler, of an iteration
ROWS = 2 * IMAGES  # two times per sample, or two noisy steps
NFE = {  # images x steps, then rows x (forward + twice backward + one for each frozen network that is evaluated)
    "nft": IMAGES * STEPS + ROWS * (3 + 2),
    "flowawr": IMAGES * STEPS + ROWS * (3 + 2),
    "ram": IMAGES * STEPS + ROWS * (3 + 1),
    "awm": IMAGES * STEPS + ROWS * (3 + 2),
    "grpo": IMAGES * STEPS + ROWS * (3 + 1),
    "rwr": IMAGES * STEPS + ROWS * (3 + 1),
    "ppo": IMAGES * STEPS + ROWS * (3 + 1),
    "rft": IMAGES * STEPS + (2 * 3 * 2) * (3 + 1),  # three images of each of two groups, twice
}


@pytest.fixture(autouse=True)
def cheap_evaluation(monkeypatch, fresh_accelerate):
    monkeypatch.setattr(equal_cost, "build_evaluator", lambda data, **_: evaluator(len(data.moas)))


@pytest.fixture
def config(save_base, tmp_path):
    return ComparisonConfig(
        output_dir=tmp_path / "out",
        budget=300,
        points=2,
        contexts=4,
        generator=str(save_base(Sampling(steps=STEPS))),
        images=IMAGES,
        group_size=4,
        mixed_precision="no",
        threads=1,
    )


def candidate(name="nft", algorithm="nft", options=None) -> Candidate:
    """Brightness as the only reward, and a learning rate at which one step shows."""
    common = {"optim.learning_rate": 1e-2, "optim.warmup_iterations": 0, "reward.terms": BRIGHT_ONLY}
    return Candidate(name=name, algorithm=algorithm, options=common | (options or {}))


def weights(folder):
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


def first_reward(folder):
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])["reward"]


def made_twice(*_):
    raise AssertionError("made twice")


def test_all_algorithms_spend_what_the_formula_says(config):
    one_epoch = {"ppo": {"loss.critic_warmup": 0, "optim.epochs": 1}}
    rivals = [candidate(name, name, one_epoch.get(name)) for name in NFE]
    results = run_all(config, rivals, [3], split="test", label="algorithm")
    assert results.names() == list(NFE)
    for run in results.runs:
        nfe = NFE[run.name]
        assert [point.nfe for point in run.points] == [nfe * point.iteration for point in run.points]
        assert [point.iteration for point in run.points] == [0, max(1, 150 // nfe), 300 // nfe]
        assert run.points[0].result == results.base != run.points[-1].result
    runner = ComparisonRunner(config=config, split="test")
    seen = {c.name: first_reward(runner.folder(c, 3)) for c in rivals if c.name not in ("grpo", "ppo")}
    assert len(set(seen.values())) == 1  # the same contexts and noise; the SDE sampler adds its own noise


@pytest.mark.parametrize("cooldown", [0.0, 0.5])
def test_iterations_of_a_critic_alone_cost_less_and_count(config, cooldown):
    options = {"loss.critic_warmup": 2, "optim.epochs": 1, "optim.cooldown": cooldown}
    ppo = candidate("ppo", "ppo", options)
    (run,) = run_all(replace(config, budget=600), [ppo], [0], split="test").runs
    spent = {iterations: 2 * IMAGES * STEPS + (iterations - 2) * NFE["ppo"] for iterations in (4, 7)}
    assert {point.iteration: point.nfe for point in run.points[1:]} == spent
    with pytest.raises(ValueError, match="at least one iteration, 160 NFE; got 150"):
        run_all(replace(config, budget=150, output_dir=config.output_dir / "less"), [ppo], [0], split="test")


def test_iterations_that_are_trained_again_count_once_in_the_time(config, monkeypatch):
    """A point resumes from before the rate of the one before fell: 1 + 1 + 3 + 4 iterations, of a second each."""
    now = [0.0]

    def train_on_the_clock(accelerator, stage, algorithm):
        def collect(iteration, clock):
            now[0] += 1
            return algorithm.collect(iteration, clock)

        return train(accelerator, stage, replace(algorithm, collect=collect))

    monkeypatch.setattr(equal_cost, "train", train_on_the_clock)
    monkeypatch.setattr(equal_cost, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    falling = candidate(options={"optim.cooldown": 0.5})
    (run,) = run_all(replace(config, budget=6 * NFE["nft"], points=3), [falling], [0], split="test").runs
    assert [(point.iteration, point.seconds) for point in run.points] == [(0, 0), (2, 2), (4, 4), (6, 6)]
    assert now == [9]


def test_results_are_kept_and_not_made_twice(config, monkeypatch):
    results = run_all(config, [candidate()], [0, 1], split="test", label="algorithm")
    curves = load_csv(config.output_dir / "results.csv", "algorithm")
    for run, columns in zip(results.runs, curves["nft"], strict=True):
        assert columns["seed"].tolist() == [run.seed] * 3 and columns["point"].tolist() == [0, 1, 2]
        assert columns["nfe"].tolist() == [point.nfe for point in run.points]
        means = [point.result.means() for point in run.points]
        for name in ("total", "judge_moa", "frechet"):
            assert columns[name] == pytest.approx([mean[name] for mean in means], abs=1e-5)
    assert not list(config.output_dir.rglob("checkpoints"))

    monkeypatch.setattr(ComparisonRunner, "run", made_twice)
    assert run_all(config, [candidate()], [0, 1], split="test", label="algorithm") == results
    with pytest.raises(AssertionError, match="made twice"):
        run_all(config, [candidate()], [2], split="test")
    for changed, split in ((replace(config, budget=500), "test"), (config, "validation")):
        with pytest.raises(ValueError, match=r"was made with .*, now .*; give another --output-dir"):
            run_all(changed, [candidate()], [0], split=split)


def test_a_run_that_another_process_finished_meanwhile_is_read(config, monkeypatch):
    config = replace(config, points=1)
    made = run_all(config, [candidate()], [0], split="test")
    load, answers = ComparisonRunner.load, []

    def late(self, candidate, seed):
        answers.append(load(self, candidate, seed) if answers else None)
        return answers[-1]

    monkeypatch.setattr(ComparisonRunner, "load", late)
    monkeypatch.setattr(ComparisonRunner, "run", made_twice)
    assert run_all(config, [candidate()], [0], split="test") == made and len(answers) == 2


def test_tables_share_runs_of_equal_config(config, tmp_path, monkeypatch):
    config = replace(config, points=1, runs_dir=tmp_path / "runs")
    first, second = (replace(config, output_dir=tmp_path / name) for name in ("a", "b"))
    beta, kl = {"loss.beta": 0.5}, NFT_PRESETS["default"].loss.kl_weight
    made = run_all(first, [candidate("start", options=beta)], [0], split="test")

    monkeypatch.setattr(ComparisonRunner, "run", made_twice)
    same = candidate("default kl", options=beta | {"loss.kl_weight": kl})
    (shared,) = run_all(second, [same], [0], split="test").runs
    assert shared.name == "default kl" and shared.points == made.runs[0].points
    assert (second.output_dir / "results.csv").exists()
    others = (
        candidate("start"),
        candidate("start", options=beta | {"loss.kl_weight": 2 * kl}),
        candidate("start", options=beta | {"reward.terms": ()}),
        candidate("start", algorithm="awm"),
    )
    for other in others:
        with pytest.raises(AssertionError, match="made twice"):
            run_all(second, [other], [0], split="test")


def test_evaluations_on_the_way_and_leftovers_change_nothing(config, monkeypatch):
    once_config = replace(config, points=1, budget=4 * NFE["nft"])
    once = run_all(once_config, [candidate()], [0], split="test")
    folder = ComparisonRunner(config=once_config, split="test").folder(candidate(), 0)
    straight = weights(folder / "model")
    (folder / "run.json").unlink()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(equal_cost, "save_cached", stop)
        run_all(once_config, [candidate()], [0], split="test")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000001.pt", "000004.pt"]
    often = run_all(replace(once_config, points=4), [candidate()], [0], split="test")
    assert torch.equal(weights(folder / "model"), straight)
    assert [point.nfe for point in often.runs[0].points] == [i * NFE["nft"] for i in range(5)]
    assert often.runs[0].points[-1].result == once.runs[0].points[-1].result


def test_the_ema_weights_are_evaluated_and_saved(config):
    short = replace(config, points=1, budget=NFE["nft"])
    both = [candidate(f"{decay}", options={"optim.ema_decay": decay}) for decay in (0.99, 0.0)]
    results = run_all(short, both, [0], split="test")
    runner = ComparisonRunner(config=short, split="test")
    for one, run in zip(both, results.runs, strict=True):
        model = CellFlux.from_pretrained(runner.folder(one, 0) / "model")
        assert runner.periodic_eval(model) == run.points[-1].result
    assert results.runs[0].points[-1].result != results.runs[1].points[-1].result


def test_a_budget_below_one_iteration_is_refused(config):
    with pytest.raises(ValueError, match=f"at least one iteration, {NFE['nft']} NFE; got 100"):
        run_all(replace(config, budget=100), [candidate()], [0], split="test")
