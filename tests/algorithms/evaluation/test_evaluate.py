"""The command: names of rows, models of other cells, and what the report says of the run."""

import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from algorithms.command_line import parse
from algorithms.config import DataConfig, EvalConfig, RewardConfig
from algorithms.evaluation import comparison, generate
from algorithms.evaluation.evaluate import PRESETS, SMOKE, EvaluateConfig, estimate, main
from algorithms.evaluation.generate import GenerateConfig
from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import BBBC021_UNSEEN
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import Sampling
from rewards import JudgeClassifier, MoAClassifier, Reference
from tests.folder_toys import write_folder


def test_flags_reach_the_config():
    config = parse(PRESETS, None, ["--model", "rl=a", "--model", "zero-reward=b", "--preset", "smoke"]).config
    assert config.model == ("rl=a", "zero-reward=b") and config.eval.contexts == 12


@pytest.mark.parametrize(
    "given",
    [
        {"model": ("a", "b")},
        {"model": ("rl=a",), "images": ("rl=b",)},
        {"images": ("b",)},
        {"model": ("base=b",)},
        {"images": ("real=b",)},
        {"sampler": ("base=base:steps=8",)},
        {"sampler": ("x=base:steps=8",), "images": ("x=b",)},
    ],
)
def test_rows_need_names_of_their_own(given):
    with pytest.raises(ValueError, match="another NAME for each"):
        main(replace(SMOKE, **given))


@pytest.fixture
def other_cells(data, tmp_path, seeded):
    """A folder with the MoAs of the embedded world, of other cells as far as names say; its models by flag."""
    seen = [p for p, name in enumerate(data.compounds) if name not in BBBC021_UNSEEN]
    first = {int(data.compound_moa[p]): p for p in reversed(seen)}.values()
    treated = torch.cat([(data.perturbation == p).nonzero().flatten()[:2] for p in first])
    rows = torch.cat([treated, data.controls[:4]])
    write_folder(tmp_path / "cells", data, rows, data.images(rows))
    models = {"classifier": MoAClassifier(data.moas), "judge": JudgeClassifier(data.moas)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / f"{name}.safetensors")
    reference = Reference.load()
    replace(reference, std={name: 2 * std for name, std in reference.std.items()}).save(tmp_path / "reference.json")
    own = {name: tmp_path / f"{name}.safetensors" for name in models} | {"reference": tmp_path / "reference.json"}
    return tmp_path / "cells", own


def config_for(folder, **own) -> EvaluateConfig:
    judge = own.pop("judge", None)
    return EvaluateConfig(data=DataConfig(path=folder), reward=RewardConfig(**own), eval=EvalConfig(judge=judge))


NEEDED = ("classifier", "judge", "reference")


@pytest.mark.parametrize("given", [names for k in range(3) for names in combinations(NEEDED, k)])
def test_other_cells_are_refused_without_their_own_models(given, tmp_path):
    missing = ", ".join(f"--{name}" for name in NEEDED if name not in given)
    with pytest.raises(ValueError, match=f"--data needs {missing} too"):
        config_for(tmp_path, **{name: tmp_path / name for name in given})


def test_other_cells_are_measured_by_their_own_models(other_cells, save_base, data, monkeypatch):
    folder, own = other_cells
    assert ImagingCells(folder, "test").moas == SyntheticCells.moas  # names do not tell the two worlds apart
    calls = []
    monkeypatch.setattr(comparison, "evaluate_models", lambda models, cells, out, **given: calls.append((cells, given)))
    main(replace(config_for(folder, **own), base=str(save_base(Sampling(steps=1)))))
    ((cells, given),) = calls
    assert cells.path == folder and given["options"].contexts == len(data.moas)
    evaluator, rows = given["evaluator"], cells.treated[:5]
    images, contexts = cells.images(rows), cells.contexts(rows, torch.Generator().manual_seed(0))
    classifier, judge = (
        model.from_pretrained(own[name]) for model, name in ((MoAClassifier, "classifier"), (JudgeClassifier, "judge"))
    )
    with torch.no_grad():
        probability = classifier(images).softmax(1)[torch.arange(5), contexts["moa"]]
        torch.testing.assert_close(evaluator.score(images, contexts)["moa"].flatten(), probability)
        torch.testing.assert_close(evaluator.classify(images)[0], judge(images).softmax(1))
    assert evaluator.sigma["roundness"].equal(Reference.load(own["reference"]).sigma("roundness"))


def test_the_report_says_where_rows_come_from_and_checks_only_what_was_trained(save_base, tmp_path, capsys):
    base = str(save_base())
    generate.main(GenerateConfig(generator=base, contexts=4, group_size=1, output_dir=tmp_path / "images"))
    main(
        replace(
            SMOKE,
            base=base,
            model=(f"rl={base}",),
            sampler=("rl-1=rl:steps=1",),
            images=(f"theirs={tmp_path / 'images'}",),
            reward=RewardConfig(terms=("roundness=0",)),
            eval=EvalConfig(contexts=4),
            group_size=1,
            output_dir=tmp_path / "out",
        )
    )
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(evaluation["rows"]) == ["base", "rl", "rl-1", "theirs", "real"]
    config = evaluation["config"]
    assert config["base"] == base and config["images"] == ["theirs"]
    assert config["generators"] == str({"base": base, "rl": base})
    assert config["folders"] == str({"theirs": str(tmp_path / "images")})
    assert config["preset"] == "default" and "roundness=0" in config["reward.terms"]
    assert "roundness" not in {reward["name"] for reward in evaluation["rewards"]} | evaluation["rows"]["rl"].keys()
    printed = capsys.readouterr().out
    assert "rl: acceptance checks" in printed and "theirs: acceptance checks" not in printed


def test_estimate_counts_every_image_of_every_model(save_base, monkeypatch):
    monkeypatch.setattr("algorithms.estimate.seconds_of", lambda work: 1.0)
    base = str(save_base(Sampling(steps=2)))
    config = replace(SMOKE, base=base, model=(base,), group_size=3, batch_size=2, eval=EvalConfig(contexts=4))
    assert estimate(config).nfe == 2 * 4 * 3 * 2  # models, contexts, samples, steps
    assert estimate(replace(config, sampler=("base-8=base:steps=8",))).nfe == (2 + 8 + 2) * 4 * 3
