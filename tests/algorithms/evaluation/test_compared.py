"""What `evaluate` and `best-of-n` share: names of rows, what is loaded in which order, and the check of the cells."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from algorithms.config import DataConfig, EvalConfig
from algorithms.evaluation import best_of_n, evaluate, generate
from algorithms.evaluation.compared import ComparedConfig, load_compared, named_folders
from algorithms.evaluation.samplers import add_sampler_rows
from algorithms.inspection import cached
from algorithms.recipes.fit import classifier, reference
from tests.algorithms.evaluation.evaluation_toys import generator


def test_folders_are_named_and_a_lone_one_gets_the_default():
    assert named_folders(["rl=runs/nft", "b=a=c"], "x") == {"rl": "runs/nft", "b": "a=c"}
    assert named_folders(["runs/nft"], "rl") == {"rl": "runs/nft"}


@pytest.mark.parametrize("name", ["base", "control", "real"])
def test_what_tables_and_pictures_show_anyway_is_no_name(name, data):
    with pytest.raises(ValueError, match="none of base, control, real"):
        named_folders([f"{name}=runs/nft"])
    with pytest.raises(ValueError, match=f"'{name}' of .* is taken"):
        add_sampler_rows({"base": generator(data, 0.1)}, [f"{name}=base:steps=2"])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("rl=runs/nft", {"rl": "runs/nft"}),
        ("runs/nft", {"default": "runs/nft"}),
        ("rl=runs/lr=3e-4/model", {"rl": "runs/lr=3e-4/model"}),
        ("runs/lr=3e-4/model", {"default": "runs/lr=3e-4/model"}),
    ],
)
def test_a_folder_may_have_an_equals_sign(entry, expected):
    assert named_folders([entry], "default") == expected


def test_models_come_with_the_contexts_that_the_cells_allow(data, save_base):
    base = str(save_base())
    config = ComparedConfig(base=base, model=(f"rl={base}",), eval=EvalConfig(contexts=10**6))
    found = load_compared(config, samplers=("rl-1=rl:steps=1",))
    assert list(found.models) == ["base", "rl", "rl-1"] and found.data.split == "test" and found.folders == {}
    assert not found.models["rl"].training and found.models["rl-1"].steps == 1
    assert found.contexts == int((torch.bincount(data.perturbation[data.treated]) // 2).sum())
    assert [spec.name for spec in found.evaluator.specs][:2] == ["moa", "containment"]


def test_images_that_cannot_be_read_are_told_before_a_model_is_loaded(tmp_path):
    config = ComparedConfig(base="no-such-generator")
    with pytest.raises(FileNotFoundError, match="theirs"):
        load_compared(config, images={"theirs": str(tmp_path / "theirs")})
    with pytest.raises(FileNotFoundError, match="no-such-generator"):
        load_compared(config)


@pytest.mark.parametrize(
    ("command", "config", "splits"),
    [
        (evaluate, evaluate.SMOKE, ("test",)),
        (best_of_n, best_of_n.SMOKE, ("test",)),
        (generate, generate.PRESETS["smoke"], ("test",)),
        (classifier, classifier.PRESETS["smoke"], ("train", "test")),
        (reference, reference.PRESETS["smoke"], ("train",)),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_every_command_that_reads_a_folder_checks_it_first(command, config, splits, tmp_path, monkeypatch):
    """The folder does not exist: whatever would read it before the check would say so."""

    class CheckedError(Exception):
        pass

    def read(path, *, splits, **given):
        raise CheckedError(path, splits)

    monkeypatch.setattr(cached, "CellFolder", SimpleNamespace(read=read))
    own = {"output_dir" if hasattr(config, "output_dir") else "output": tmp_path / "out"}
    folder = DataConfig(path=tmp_path / "cells", unlabelled=True)
    reward = {"reward": replace(config.reward, reference=tmp_path / "r.json")} if hasattr(config, "reward") else {}
    with pytest.raises(CheckedError) as caught:
        command.main(replace(config, data=folder, **own, **reward))
    assert caught.value.args == (tmp_path / "cells", splits)
