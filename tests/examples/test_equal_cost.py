"""Runs within a budget of passes, on a tiny generator and a toy reward."""

import json
from dataclasses import replace

import pytest
import torch
from comparison_toys import rulers

from cellenv.generator import CellFlux, Sampling

STEPS, IMAGES = 4, 8  # of the sampler, of an iteration
ROWS = 2 * IMAGES  # two times a sample, or two noisy steps
PRICE = {  # images x steps, then rows x (forward + twice backward + one for each frozen network that is asked)
    "nft": IMAGES * STEPS + ROWS * (3 + 2),
    "awm": IMAGES * STEPS + ROWS * (3 + 2),
    "grpo": IMAGES * STEPS + ROWS * (3 + 1),
    "rwr": IMAGES * STEPS + ROWS * (3 + 1),
    "ppo": IMAGES * STEPS + ROWS * 3,
    "rft": IMAGES * STEPS + (2 * 3 * 2) * (3 + 1),  # three of each of two groups, twice
}


@pytest.fixture
def script(evaluated, monkeypatch):
    import equal_cost

    monkeypatch.setattr(equal_cost, "make_rulers", lambda data, **_: rulers(len(data.moas)))
    return equal_cost


@pytest.fixture
def plan(script, save_base, tmp_path):
    from plans import Plan

    base = save_base(Sampling(steps=STEPS))
    small = {"budget": 300, "points": 2, "contexts": 4, "images": IMAGES, "group_size": 4}
    return Plan(output_dir=tmp_path / "out", generator=str(base), mixed_precision="no", threads=1, **small)


@pytest.fixture
def candidate(script):
    from plans import Candidate

    def candidate(name="nft", algorithm="nft", learning_rate=1e-2, weights=None, **options):
        options = {"learning_rate": learning_rate, "warm_up": 0} | options
        return Candidate(name=name, algorithm=algorithm, options=options, weights=weights)

    return candidate


def weights(folder):
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


def first_line(folder):
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])


def made_twice(*_):
    raise AssertionError("made twice")


def test_all_algorithms_spend_what_the_formula_says(script, plan, candidate):
    rivals = [candidate(name, name) for name in PRICE]
    results = script.run_all(plan, rivals, [3], split="test", label="algorithm")
    assert results.names() == list(PRICE)
    for run in results.runs:
        price = PRICE[run.name]
        assert [at.passes for at in run.points] == [price * at.iteration for at in run.points]
        assert [at.iteration for at in run.points] == [0, max(1, 150 // price), 300 // price]
        assert run.points[0].marks == results.base != run.points[-1].marks
    bench = script.Bench(plan=plan, split="test")
    seen = {c.name: first_line(bench.folder(c, 3))["reward"] for c in rivals if c.name not in ("grpo", "ppo")}
    assert len(set(seen.values())) == 1  # the same contexts and noise; the chain has noise of its own


def test_results_are_kept_line_by_line_and_not_made_twice(script, plan, candidate, monkeypatch):
    from results import load_csv

    results = script.run_all(plan, [candidate()], [0, 1], split="test", label="algorithm")
    table = load_csv(plan.output_dir / "results.csv", "algorithm")
    assert list(table) == ["nft"] and len(table["nft"]) == 2
    for run, columns in zip(results.runs, table["nft"], strict=True):
        assert columns["seed"].tolist() == [run.seed] * 3 and columns["point"].tolist() == [0, 1, 2]
        assert columns["passes"].tolist() == [at.passes for at in run.points]
        assert columns["total"] == pytest.approx([at.marks.of("total").mean() for at in run.points], abs=1e-5)
        assert columns["frechet"] == pytest.approx([at.marks.frechet for at in run.points], abs=1e-5)
    assert not list(plan.output_dir.rglob("checkpoints"))

    monkeypatch.setattr(script.Bench, "run", made_twice)
    again = script.run_all(plan, [candidate()], [0, 1], split="test", label="algorithm")
    assert again == results
    with pytest.raises(AssertionError, match="made twice"):
        script.run_all(plan, [candidate()], [2], split="test")
    for other in ({"plan": replace(plan, budget=500)}, {"split": "validation"}):
        told = {"plan": plan, "split": "test"} | other
        with pytest.raises(ValueError, match=r"was made with .*, now .*; give another --output-dir"):
            script.run_all(told["plan"], [candidate()], [0], split=told["split"])


def test_a_run_that_another_process_finished_since_the_start_is_read(script, plan, candidate, monkeypatch):
    made = script.run_all(plan, [candidate()], [0], split="test")
    finished, answers = script.Bench.finished, []

    def late(self, candidate, seed):
        answers.append(finished(self, candidate, seed) if answers else None)
        return answers[-1]

    monkeypatch.setattr(script.Bench, "finished", late)
    monkeypatch.setattr(script.Bench, "run", made_twice)
    assert script.run_all(plan, [candidate()], [0], split="test") == made and len(answers) == 2


def test_tables_share_a_run_whatever_they_call_it(script, plan, candidate, tmp_path, monkeypatch):
    first, second = (replace(plan, output_dir=tmp_path / name, runs_dir=tmp_path / "runs") for name in ("a", "b"))
    made = script.run_all(first, [candidate("start", beta=0.5)], [0], split="test")

    monkeypatch.setattr(script.Bench, "run", made_twice)
    kl = script.SCRIPTS["nft"].Config().kl_weight
    (shared,) = script.run_all(second, [candidate("pull", beta=0.5, kl_weight=kl)], [0], split="test").runs
    assert shared.name == "pull" and shared.points == made.runs[0].points
    assert (second.output_dir / "results.csv").exists()
    others = ({}, {"beta": 0.5, "kl_weight": 2 * kl}, {"beta": 0.5, "weights": {"bright": 1.0}}, {"algorithm": "awm"})
    for other in others:
        with pytest.raises(AssertionError, match="made twice"):
            script.run_all(second, [candidate("start", **other)], [0], split="test")


def test_a_run_is_named_after_what_its_script_would_not_do(script, plan):
    from plans import Candidate

    def name(**told):
        return script.run_name(plan, Candidate(name="any", **told))

    own = script.SCRIPTS["nft"].Config()
    assert name() == name(options={"beta": own.beta, "warm_up": script.WARM_UP}) == "nft"
    assert name(options={"group_size": plan.group_size}) == "nft" != name(options={"group_size": 2})
    assert name(options={"kl_weight": 0.0, "beta": 0.5}, weights={"moa": 1.0}) == "nft,beta=0.5,kl_weight=0.0,moa=1.0"
    assert name(weights={"roundness": 2.0, "moa": 1.0}) == name(weights={"moa": 1.0, "roundness": 2.0})
    assert name(algorithm="rft", options={"keep": 1}) == "rft,keep=1"


def test_stopping_to_be_examined_changes_nothing_and_leftovers_neither(script, plan, candidate, monkeypatch):
    four = replace(plan, points=1, budget=4 * PRICE["nft"])
    once = script.run_all(four, [candidate()], [0], split="test")
    folder = script.Bench(plan=four, split="test").folder(candidate(), 0)
    straight = weights(folder / "model")
    (folder / "run.json").unlink()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "keep", stop)
        script.run_all(four, [candidate()], [0], split="test")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000001.pt", "000004.pt"]
    often = script.run_all(replace(four, points=4), [candidate()], [0], split="test")
    assert torch.equal(weights(folder / "model"), straight)
    assert [at.passes for at in often.runs[0].points] == [i * PRICE["nft"] for i in range(5)]
    assert often.runs[0].points[-1].marks == once.runs[0].points[-1].marks


def stop(*_):
    raise KeyboardInterrupt


def test_the_averaged_weights_are_examined_and_kept(script, plan, candidate):
    short = replace(plan, points=1, budget=PRICE["nft"])
    both = [candidate("slow", ema_decay=0.99), candidate("fast", ema_decay=0.0)]
    results = script.run_all(short, both, [0], split="test")
    bench = script.Bench(plan=short, split="test")
    for one, run in zip(both, results.runs, strict=True):
        model = CellFlux.from_pretrained(bench.folder(one, 0) / "model")
        assert bench.exam(model) == run.points[-1].marks
    assert results.runs[0].points[-1].marks != results.runs[1].points[-1].marks


def test_weights_of_the_rewards_reach_the_training(script, plan, candidate):
    short = replace(plan, points=1, budget=PRICE["nft"])
    both = [candidate("bright"), candidate("dark", weights={"bright": -2.0})]
    script.run_all(short, both, [0], split="test")
    folders = [script.Bench(plan=short, split="test").folder(one, 0) for one in both]
    bright, dark = (first_line(folder)["reward"] for folder in folders)
    assert dark == pytest.approx(-2 * bright)
    assert not torch.equal(*(weights(folder / "model") for folder in folders))


def test_what_cannot_be_run_is_said(script, plan, candidate):
    with pytest.raises(ValueError, match=f"at least one iteration, {PRICE['nft']} passes; got 100"):
        script.run_all(replace(plan, budget=100), [candidate()], [0], split="test")
    with pytest.raises(ValueError, match="images in whole groups of 3, got 8"):
        script.run_all(plan, [candidate(group_size=3)], [0], split="test")
    config = script.settings_of(plan, candidate(group_size=2), 5, plan.output_dir)
    assert (config.groups, config.group_size, config.seed, config.trackers) == (4, 2, 5, ())
