"""Best of N on toy generators and rulers: curves, pairs, tables, and what is measured how often."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from comparison_toys import generator

from algorithms.evaluation import Rulers


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import best_of_n

    return best_of_n


class Watch:
    """Rulers that count: brightness is the total, darkness another reward; the judge of containment sees the first
    channel, that of MoAs none: MoA m gets the probability m / (1 + 2 + ...)."""

    def __init__(self, moas: int):
        self.scored, self.judged = 0, 0
        self.moa = torch.arange(moas) / torch.arange(moas).sum()
        self.rulers = Rulers(
            score=self.score,
            judge=lambda images: (self.moa.expand(len(images), -1), images.mean((2, 3))),
            judge_containment=self.judge,
            measure=lambda images: {"size": images.std((1, 2, 3))},
            sigma={"size": torch.ones(moas)},
        )

    def score(self, images, contexts):
        self.scored += len(images)
        bright = images.mean((1, 2, 3))
        return {"total": bright[:, None], "dark": -bright}

    def judge(self, images):
        self.judged += len(images)
        return images[:, 0].mean((1, 2))


@pytest.fixture
def config(script):
    return replace(script.PRESETS["default"], contexts=10, most=8, tables=(1, 4, 8), batch_size=7)


def run(script, data, config):
    watch = Watch(len(data.moas))
    models = {"base": generator(data, 0.0), "rl": generator(data, 0.1)}
    return script.compare(models, data, watch.rulers, config), models, watch


def means(rows, name):
    return [at[name]["mean"] for at in rows]


def test_curves_equal_the_best_of_a_group(script, data, config):
    from evaluate import sample_groups
    from tqdm import tqdm

    from algorithms.evaluation import twin_rows

    result, models, watch = run(script, data, config)
    rng = torch.Generator().manual_seed(config.seed)
    rows = data.treated[twin_rows(data.perturbation[data.treated], config.contexts, rng)[0]]
    scene = data.contexts(rows, rng)
    for name, model in models.items():
        group = sample_groups(model, scene, config.most, 32, tqdm(disable=True))  # (n, G, C, H, W)
        bright, first = group.mean((2, 3, 4)), group[:, :, 0].mean((2, 3))
        for n in range(1, config.most + 1):
            score, chosen = bright[:, :n].max(1)
            at = result["curve"]["rows"][name][n - 1]
            assert at["total"]["mean"] == pytest.approx(score.mean().item(), abs=1e-6)
            assert at["judge_moa"]["mean"] == pytest.approx(watch.moa[scene["moa"]].mean().item(), abs=1e-6)
            judged = first.gather(1, chosen[:, None]).mean().item()
            assert at["judge_containment"]["mean"] == pytest.approx(judged, abs=1e-6)


def test_reward_rises_with_n_and_pairs_are_taken_at_the_same_n(script, data, config):
    result, _, _ = run(script, data, config)
    curve = result["curve"]
    assert curve["n"] == list(range(1, 9)) and list(curve["rows"]) == ["base", "rl"]
    for row in curve["rows"].values():
        total = means(row, "total")
        assert all(a <= b for a, b in pairwise(total)) and total[-1] > total[0]
    for n, pair in enumerate(curve["paired"]["rl-base"]):
        base, rl = (means(curve["rows"][name], "total")[n] for name in ("base", "rl"))
        assert pair["total"]["mean"] == pytest.approx(rl - base, abs=1e-7)
        assert 0 < pair["total"]["ci"][0] <= pair["total"]["mean"]
        width = curve["rows"]["rl"][n]["total"]["ci"][1] - curve["rows"]["rl"][n]["total"]["ci"][0]
        assert pair["total"]["ci"][1] - pair["total"]["ci"][0] < width / 2  # contexts and noise are shared


def test_tables_are_evaluations_of_the_chosen_images(script, data, config):
    result, _, _ = run(script, data, config)
    assert list(result["best_of"]) == ["1", "4", "8"]
    for n, evaluation in result["best_of"].items():
        assert list(evaluation["rows"]) == ["base", "rl", "real"] and evaluation["config"]["best_of"] == int(n)
        for name in ("base", "rl"):
            at = result["curve"]["rows"][name][int(n) - 1]
            for figure in ("total", "judge_containment"):
                assert evaluation["rows"][name][figure]["mean"] == pytest.approx(at[figure]["mean"], abs=1e-6)
        assert evaluation["paired"]["rl-base"]["total"]["ci"][0] > 0 and evaluation["rows"]["base"]["frechet"] > 0


def test_another_scorer_chooses_others(script, data, config):
    dark, _, _ = run(script, data, replace(config, scorer="dark"))
    row = dark["curve"]["rows"]["base"]
    assert means(row, "dark")[-1] > means(row, "dark")[0] and means(row, "total")[-1] < means(row, "total")[0]


def test_only_winners_are_judged(script, data, config):
    _, _, watch = run(script, data, replace(config, tables=(1,)))
    drawn = 2 * config.contexts * config.most
    winners = watch.judged - 3 * config.contexts  # the table measures base, rl and real
    assert watch.scored >= drawn and 2 * config.contexts < winners < 0.6 * drawn


def test_command_writes_a_plot_and_the_numbers(script, data, config, tmp_path, monkeypatch, capsys):
    watch = Watch(len(data.moas))
    monkeypatch.setattr(script, "make_rulers", lambda *_, **__: watch.rulers)
    loaded = {"embedded": generator(data, 0.0), "folder": generator(data, 0.1)}
    monkeypatch.setattr(script.CellFlux, "from_pretrained", staticmethod(loaded.__getitem__))
    script.main(replace(config, model=("rl=folder",), output_dir=tmp_path / "out"))
    assert (tmp_path / "out" / "best_of_n.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert len(result["curve"]["rows"]["rl"]) == 8 and result["best_of"]["4"]["config"]["model"] == "('rl=folder',)"
    printed = capsys.readouterr().out
    assert all(f"Best of {n} by total, 10 held-out contexts" in printed for n in (1, 4, 8)) and "rl − base" in printed


def test_wrong_arguments_are_named(script, data, config):
    with pytest.raises(ValueError, match="need a scorer of total, dark; got 'beauty'"):
        run(script, data, replace(config, scorer="beauty"))
    with pytest.raises(ValueError, match=r"need tables between 1 and most = 8; got \(1, 16\)"):
        run(script, data, replace(config, tables=(1, 16)))
    with pytest.raises(ValueError, match="another NAME for each --model"):
        script.main(replace(config, model=("a", "b")))


def test_help_needs_no_heavy_import(request):
    command = [sys.executable, "-X", "importtime", "examples/best_of_n.py", "--help"]
    done = subprocess.run(command, cwd=request.config.rootpath, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "--scorer" in done.stdout and "torch" not in done.stderr
