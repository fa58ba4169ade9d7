"""The sweep on a generator whose flow has a closed form: x1 is the source times the solver's version of exp(-1)."""

import copy
import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from algorithms.evaluation.distances import frechet_distance, standardise
from algorithms.evaluation.held_out import count_pairs
from algorithms.evaluation.periodic_eval import PeriodicEval
from algorithms.evaluation.statistics import Interval, bootstrap_counts, mean_interval
from cellenv.data.synthetic import SyntheticCells
from cellenv.env import repeat_groups
from cellenv.generator import SAMPLINGS, CellFlux, Sampling
from cellenv.networks import UNetConfig
from cellenv.path import edm_times, uniform_times
from examples.studies import sampler_sweep
from examples.studies.sampler_report import SamplerComparison
from examples.studies.sampler_sweep import SweepConfig, SweepStage, candidates, choose, main
from tests.examples.studies.comparison_toys import evaluator

GROWTH = {  # of x in one step of length h
    "euler": lambda h: 1 - h,
    "heun": lambda h: 1 - h + h * h / 2,
    "midpoint": lambda h: 1 - h + h * h / 2,
}


class Decay(nn.Module):
    """v = -x, with or without a condition."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t, condition=None, keep=None):
        return -self.rate * x_t


@pytest.fixture
def model(data):
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Decay(), config, Sampling(steps=3, solver="euler", noise_level=0.2)).eval()


@pytest.fixture(autouse=True)
def cheap(monkeypatch, model, data, fresh_accelerate):
    monkeypatch.setattr(sampler_sweep, "build_evaluator", lambda *_, **__: evaluator(len(data.moas)))
    monkeypatch.setattr(CellFlux, "from_pretrained", staticmethod(lambda name: copy.deepcopy(model)))
    monkeypatch.setattr(sampler_sweep, "RESAMPLES", 40)


@pytest.fixture
def config(tmp_path):
    return SweepConfig(
        output_dir=tmp_path / "sweep",
        steps=(2, 4),
        grids=("uniform",),
        max_nfe=8,
        contexts=9,
        choose_contexts=9,
        threads=1,
        mixed_precision="no",
    )


@pytest.fixture
def drawn(monkeypatch):
    """The samplers that were used, in order."""
    drawn, sample = [], PeriodicEval.sample

    def noted(self, model):
        drawn.append(model.sampling)
        return sample(self, model)

    monkeypatch.setattr(PeriodicEval, "sample", noted)
    return drawn


def lines(config):
    with (config.output_dir / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def growth(solver, times):
    return math.prod(GROWTH[solver](h) for h in times.diff().tolist())


def features(periodic_eval, model, line):
    model.sampling = Sampling(
        solver=line["solver"],
        steps=int(line["steps"]),
        grid=line["grid"],
        guidance=float(line["guidance"]),
        noise_level=0.2,
    )
    return periodic_eval.evaluator.classify(periodic_eval.sample(model))[1]


def test_the_loss_of_a_sampler_is_that_of_its_solver(config, data, model):
    main(config)
    published = growth("heun", edm_times(50))
    short = PeriodicEval.create(SyntheticCells("validation"), evaluator(len(data.moas)), contexts=9, seed=1)
    context = repeat_groups(short.contexts, 1)
    source = model.sample(context["x0"], context["condition"], context["seed"])[1]
    brightness = source.mean((1, 2, 3)).double().numpy()  # the total of the toy evaluator, before the flow
    counts, real = bootstrap_counts(9, np.random.default_rng(1), count=40), short.real.mean().item()
    gap = abs(real - (brightness * published).mean())
    checked = 0
    for line in (line for line in lines(config) if line["split"] == "validation" and line["solver"] in GROWTH):
        times = edm_times if line["grid"] == "edm" else uniform_times
        factor = growth(line["solver"], times(int(line["steps"])))
        gain = mean_interval(brightness * (factor - published), counts)
        assert float(line["total"]) == pytest.approx((brightness * factor).mean(), abs=3e-5)
        assert [float(line[f"total_gain{end}"]) for end in ("", "_low", "_high")] == pytest.approx(gain, abs=3e-5)
        assert float(line["total_loss"]) == pytest.approx(-gain.mean / gap, abs=2e-4)
        assert float(line["total_loss_low"]) == pytest.approx(-gain.high / gap, abs=2e-4)
        own, other = (standardise(x, short.features) for x in (features(short, model, line), short.features))
        assert float(line["frechet"]) == pytest.approx(frechet_distance(own, other), abs=2e-5)
        checked += 1
    assert checked == 13  # published, without guidance, own; within 8 NFE 4 of Euler, 3 of Heun and of midpoint


def test_the_choice_is_made_on_validation_reported_on_test_and_not_computed_twice(config, drawn):
    main(config)
    found, first = lines(config), len(drawn)
    tried, reported = ([line for line in found if line["split"] == split] for split in ("validation", "test"))
    assert tried[0]["role"] == reported[0]["role"] == "published" and tried[0]["nfe"] == "200"
    assert [line["role"] for line in reported] == ["published", "published without guidance", "own", "chosen"]
    rivals = [line for line in tried if int(line["nfe"]) <= 8 and "own" not in line["role"]]
    losses = [max(float(line["total_loss"]), float(line["frechet_loss"])) for line in rivals]
    (chosen,) = (line for line in tried if line["role"] == "chosen")
    assert max(float(chosen["total_loss"]), float(chosen["frechet_loss"])) <= min(losses) + 1e-3
    assert chosen["guidance"] == "0.0"  # it has no effect here and doubles the NFE
    zeros = {reported[0][f"{x}{end}"] for x in ("total_loss", "frechet_loss") for end in ("", "_low", "_high")}
    assert {abs(float(zero)) for zero in zeros} == {0.0}  # the published sampler against itself
    text = (config.output_dir / "table.md").read_text()
    assert "On 9 contexts of the validation split" in text and "On 9 contexts of the test split" in text
    assert f"{chosen['solver']} × {chosen['steps']}, uniform, guidance 0 needs {chosen['nfe']} NFE" in text
    assert (config.output_dir / "picture.png").read_bytes().startswith(b"\x89PNG")

    assert first == len(found) and drawn[0].steps == SAMPLINGS["cellflux"].steps
    (config.output_dir / "validation" / "heun-2-uniform-0.json").unlink()
    main(config)
    assert [(s.solver, s.steps, s.guidance) for s in drawn[first:]] == [("heun", 2, 0.0)] and lines(config) == found
    with pytest.raises(ValueError, match="seed=1, now 2"):
        main(replace(config, choose_seed=2))


@pytest.mark.parametrize(("contexts", "pairs"), [(520, 520), (521, 546)])
def test_more_cells_are_drawn_where_a_split_has_too_few(config, contexts, pairs):
    stage = SweepStage(config=config, accelerator=None, model=None, split="test", contexts=contexts, seed=0)
    assert count_pairs(stage.data) == pairs


def test_the_help_states_the_nfe_of_the_default_grid():
    rivals = candidates(SweepConfig(), Sampling())
    stated = re.search(r"(\d+) samplers, of (\d+) NFE together; with the (\d+)", sampler_sweep.__doc__)
    published = SAMPLINGS["cellflux"].nfe + replace(SAMPLINGS["cellflux"], guidance=0.0).nfe
    assert tuple(map(int, stated.groups())) == (len(rivals), sum(s.nfe for s in rivals), published)
    assert max(s.nfe for s in rivals) == SweepConfig().max_nfe == 12
    with pytest.raises(ValueError, match="at most 1 NFE"):
        candidates(SweepConfig(max_nfe=1), Sampling())


def test_the_greater_loss_decides_and_then_the_nfe():
    def comparison(solver, total, frechet):
        zero = Interval(0, 0, 0)
        return SamplerComparison(
            sampling=Sampling(solver=solver),
            means={},
            total=zero,
            judge_moa=zero,
            frechet=zero,
            total_loss=Interval(total, total, total),
            frechet_loss=Interval(frechet, frechet, frechet),
        )

    uneven, even = comparison("euler", -0.5, 0.2), comparison("multistep", 0.1, 0.1)
    dear, best = comparison("heun", 0.0999, 0.0999), comparison("midpoint", 0.0, 0.0)
    tried = [best, uneven, dear, even]
    assert choose(tried, [c.sampling for c in tried[1:]]) == even.sampling  # the best is not among the rivals
    assert choose(tried, [c.sampling for c in tried]) == best.sampling
