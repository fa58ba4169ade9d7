"""The sweep on a generator whose flow has a closed form: x1 is the source times what the solver makes of exp(-1)."""

import copy
import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from comparison_toys import rulers
from torch import nn

from algorithms.distances import frechet_distance, standardise
from algorithms.statistics import Interval, mean_interval, resamples
from cellenv.env import repeat_groups
from cellenv.generator import SAMPLINGS, CellFlux, Sampling
from cellenv.networks import UNetConfig
from cellenv.path import edm_times

STEP = {  # what one step of length h makes of x
    "euler": lambda h: 1 - h,
    "heun": lambda h: 1 - h + h * h / 2,
    "midpoint": lambda h: 1 - h + h * h / 2,
}


class Decay(nn.Module):
    """v = -x, with a condition or without."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t, condition=None, keep=None):
        return -self.rate * x_t


@pytest.fixture
def model(data):
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Decay(), config, Sampling(steps=3, solver="euler", noise_level=0.2)).eval()


@pytest.fixture
def script(monkeypatch, request, model, data, fresh_accelerate):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import sampler_sweep

    monkeypatch.setattr(sampler_sweep, "make_rulers", lambda *_, **__: rulers(len(data.moas)))
    monkeypatch.setattr(sampler_sweep.CellFlux, "from_pretrained", staticmethod(lambda name: copy.deepcopy(model)))
    monkeypatch.setattr(sampler_sweep, "RESAMPLES", 40)
    return sampler_sweep


@pytest.fixture
def config(script, tmp_path):
    few = {"steps": (2, 4), "grids": ("uniform",), "passes": 8, "threads": 1, "mixed_precision": "no"}
    return script.Config(output_dir=tmp_path / "sweep", contexts=9, choose_contexts=9, **few)


@pytest.fixture
def drawn(script, monkeypatch):
    """The samplers that drew, in order."""
    drawn, draw = [], script.Exam.draw

    def noted(exam, model):
        drawn.append(model.sampling)
        return draw(exam, model)

    monkeypatch.setattr(script.Exam, "draw", noted)
    return drawn


def lines(config):
    with (config.output_dir / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def shrink(solver, times):
    return math.prod(STEP[solver](h) for h in times.diff().tolist())


def test_what_a_sampler_loses_is_what_the_solver_loses(script, config, data, model):
    script.main(config)
    published = shrink("heun", edm_times(50))
    exam = script.Exam.of(script.SyntheticCells("validation"), rulers(len(data.moas)), contexts=9, seed=1)
    x0, condition, seed = (repeat_groups(exam.scene, 1)[key] for key in ("x0", "condition", "seed"))
    source = model.sample(x0, condition, seed)[1].mean((1, 2, 3)).double().numpy()  # brightness, the total of the toy
    draws, real = resamples(9, np.random.default_rng(1), count=40), exam.real.mean().item()
    checked = 0
    for line in (line for line in lines(config) if line["split"] == "validation" and line["solver"] in STEP):
        steps, edm = int(line["steps"]), line["grid"] == "edm"
        grid = edm_times(steps) if edm else torch.linspace(0, 1, steps + 1)
        factor = shrink(line["solver"], grid)
        gain = mean_interval(source * (factor - published), draws)
        told = [float(line[f"total_gain{end}"]) for end in ("", "_low", "_high")]
        assert float(line["total"]) == pytest.approx((source * factor).mean(), abs=3e-5)
        assert told == pytest.approx(list(gain), abs=3e-5)
        gap = abs(real - (source * published).mean())
        assert float(line["total_lost"]) == pytest.approx(-gain.mean / gap, abs=2e-4)
        assert float(line["total_lost_low"]) == pytest.approx(-gain.high / gap, abs=2e-4)
        own, other = (standardise(x, exam.features) for x in (features(exam, model, line), exam.features))
        assert float(line["frechet"]) == pytest.approx(frechet_distance(own, other), abs=2e-5)
        checked += 1
    assert checked == 13  # published, without guidance, own; within 8 passes 4 of Euler, 3 of Heun and of midpoint


def features(exam, model, line):
    names = {"solver": line["solver"], "steps": int(line["steps"]), "grid": line["grid"]}
    model.sampling = Sampling(**names, guidance=float(line["guidance"]), noise_level=0.2)
    return exam.rulers.judge(exam.draw(model))[1]


def test_the_choice_is_made_on_validation_and_reported_on_test(script, config):
    script.main(config)
    found = lines(config)
    tried, reported = ([line for line in found if line["split"] == split] for split in ("validation", "test"))
    assert tried[0]["role"] == reported[0]["role"] == "published" and tried[0]["passes"] == "200"
    assert [line["role"] for line in reported] == ["published", "published without guidance", "own", "chosen"]
    rivals = [line for line in tried if int(line["passes"]) <= 8 and "own" not in line["role"]]
    losses = [max(float(line["total_lost"]), float(line["frechet_lost"])) for line in rivals]
    (chosen,) = (line for line in tried if line["role"] == "chosen")
    assert max(float(chosen["total_lost"]), float(chosen["frechet_lost"])) <= min(losses) + 1e-3
    assert chosen["guidance"] == "0.0"  # it does nothing here and doubles the passes
    text = (config.output_dir / "table.md").read_text()
    assert "On 9 contexts of the validation split" in text and "On 9 contexts of the test split" in text
    assert f"{chosen['solver']} × {chosen['steps']}, uniform, guidance 0 needs {chosen['passes']} passes" in text
    assert (config.output_dir / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_published_sampler_is_compared_with_itself_at_no_difference(script, config):
    script.main(config)
    for line in lines(config):
        if line["role"] == "published":
            names = [
                f"{x}{end}" for x in ("total_lost", "frechet_lost", "judge_moa_gain") for end in ("", "_low", "_high")
            ]
            assert {abs(float(line[name])) for name in names} == {0.0}


def test_what_is_finished_is_not_drawn_again(script, config, drawn):
    script.main(config)
    first, told = len(drawn), lines(config)
    assert first == len(told) and SAMPLINGS["cellflux"].steps == drawn[0].steps
    script.main(config)
    assert len(drawn) == first and lines(config) == told
    (config.output_dir / "validation" / "heun-2-uniform-0.json").unlink()
    script.main(config)
    assert [(s.solver, s.steps, s.guidance) for s in drawn[first:]] == [("heun", 2, 0.0)] and lines(config) == told
    with pytest.raises(ValueError, match="seed=1, now 2"):
        script.main(replace(config, choose_seed=2))


@pytest.mark.parametrize(("contexts", "pairs"), [(520, 520), (521, 546), (1024, 1040)])
def test_where_a_split_has_too_few_cells_more_are_drawn(script, config, contexts, pairs):
    stage = script.Stage(config=config, accelerator=None, model=None, split="test", contexts=contexts, seed=0)
    assert script.pairs_of(stage.data) == pairs


def test_the_help_states_what_the_default_grid_costs(script):
    rivals = script.candidates(script.Config(), Sampling())
    stated = re.search(r"(\d+) samplers, of (\d+) passes together; with the (\d+)", script.__doc__)
    extra = SAMPLINGS["cellflux"].passes + replace(SAMPLINGS["cellflux"], guidance=0.0).passes
    assert tuple(map(int, stated.groups())) == (len(rivals), sum(s.passes for s in rivals), extra)
    assert max(s.passes for s in rivals) == script.Config().passes == 12
    with pytest.raises(ValueError, match="at most 1 passes"):
        script.candidates(script.Config(passes=1), Sampling())


def test_the_greater_loss_decides_and_then_the_cost(script):
    def standing(solver, total, frechet):
        lost = (Interval(x, x, x) for x in (total, frechet))
        rest = dict.fromkeys(("total", "judge_moa", "frechet"), Interval(0, 0, 0))
        sampling = Sampling(solver=solver)
        names = ("total_lost", "frechet_lost")
        return script.Standing(sampling=sampling, means={}, **rest, **dict(zip(names, lost, strict=True)))

    uneven, even, dear = standing("euler", -0.5, 0.2), standing("multistep", 0.1, 0.1), standing("heun", 0.0999, 0.0999)
    best = standing("midpoint", 0.0, 0.0)
    tried = [best, uneven, dear, even]
    assert script.choose(tried, [s.sampling for s in tried[1:]]) == even.sampling  # the best is no rival
    assert script.choose(tried, [s.sampling for s in tried]) == best.sampling


def test_an_interval_of_the_distance_is_centred_on_its_difference(script):
    from results import Marks
    from sampler_report import Score

    draws, noise = resamples(4, np.random.default_rng(0), count=200), np.random.default_rng(1).normal(size=200)

    def score(frechet, bias):
        marks = Marks(values=dict.fromkeys(("total", "judge_moa"), [float(frechet)] * 4), frechet=frechet)
        return Score(marks=marks, frechets=frechet + bias + 0.1 * frechet * noise)

    real = Marks(values={"total": [7.0] * 4}, frechet=1.0)
    found = script.Standing.of(Sampling(), score(5.0, 3.0), score(4.0, 2.5), real, draws)
    assert found.frechet.mean == 1.0
    low, high = np.quantile(0.1 * (noise - noise.mean()), [0.025, 0.975])
    assert found.frechet == pytest.approx((1.0, 1 + low, 1 + high))
    assert found.frechet_lost == pytest.approx((0.25, (1 + low) / 4, (1 + high) / 4))
    assert found.total_lost == pytest.approx((-1 / 3, -1 / 3, -1 / 3))  # 5 of 4 on the way to 7: a gain
    assert found.worst == pytest.approx(0.25)
