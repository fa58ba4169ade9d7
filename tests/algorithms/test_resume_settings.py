"""Settings that must be equal on resuming: all but the resumable fields; paths may move with their content."""

import copy
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from algorithms.config import RESUMABLE_FIELDS, DataConfig, OldPolicyRolloutConfig, RewardConfig, TrainingEvalConfig
from algorithms.logs import flatten_config
from algorithms.recipes import base_training
from algorithms.recipes.base import BaseConfig
from algorithms.recipes.nft import NFTConfig
from algorithms.resume_settings import describe_changes, resume_settings
from tests.algorithms.nft_toys import DATA, ToyCells

CONFIG = NFTConfig()


def settings(config, cells=DATA):
    return resume_settings(config, RESUMABLE_FIELDS, cells, "no")


def test_every_field_but_the_resumable_ones_is_compared():
    for config, resumable in ((CONFIG, RESUMABLE_FIELDS), (BaseConfig(), base_training.RESUMABLE_FIELDS)):
        names = flatten_config(asdict(config)).keys()
        assert set(resumable) < names
        compared = names - set(resumable) | {"mixed_precision"}
        assert resume_settings(config, resumable, DATA, "no").keys() == compared
    assert settings(CONFIG) == settings(replace(CONFIG, iterations=9, eval=TrainingEvalConfig(contexts=9)))
    other = settings(replace(CONFIG, rollout=OldPolicyRolloutConfig(groups=9)))
    assert describe_changes(settings(CONFIG), other) == "rollout.groups=12, now 9"


def test_micro_batches_and_threads_may_change():
    optim = replace(CONFIG.optim, micro_batch_size=7)
    assert settings(CONFIG) == settings(replace(CONFIG, optim=optim, threads=3, save_minutes=1.0))


@pytest.mark.parametrize("kind", ["file", "folder", "reward"])
def test_a_path_may_move_but_its_content_may_not_change(tmp_path, kind):
    def config(name, content):
        path = tmp_path / name
        if kind == "folder":
            path.mkdir()
            (path / "model.safetensors").write_text(content)
            return replace(CONFIG, generator=str(path))
        path.write_text(content)
        if kind == "file":
            return replace(CONFIG, reward=RewardConfig(classifier=path))
        return replace(CONFIG, reward=RewardConfig(terms=("moa=2", f"sharp={path}:sharp:0.5")))

    first, moved, changed = (
        settings(config(name, text)) for name, text in (("a.py", "a"), ("b.py", "a"), ("c.py", "c"))
    )
    assert first == moved and first != changed
    assert str(tmp_path) not in str(first)


def test_a_name_beside_which_such_a_file_lies_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights").write_text("a")
    plain, dotted = (settings(replace(CONFIG, reward=RewardConfig(segmenter=x))) for x in ("weights", "./weights"))
    Path("weights").write_text("b")
    changed = settings(replace(CONFIG, reward=RewardConfig(segmenter="weights")))
    assert plain == dotted and describe_changes(plain, changed).startswith("reward.segmenter=content")
    assert settings(CONFIG)["reward.segmenter"] == "embedded"


def test_a_text_too_long_for_a_path_is_none():
    long = "/" + 300 * "x"
    assert settings(replace(CONFIG, generator=long))["generator"] == long


@pytest.mark.parametrize("name", ["moas", "compound_moa", "conditions"])
def test_data_of_other_mechanisms_or_embeddings_are_others(tmp_path, name):
    models = {x: tmp_path / x for x in ("classifier", "reference")}
    evaluation = TrainingEvalConfig(judge=tmp_path / "judge")
    config = replace(CONFIG, data=DataConfig(path=tmp_path), reward=RewardConfig(**models), eval=evaluation)
    other, value = copy.copy(DATA), getattr(DATA, name)
    setattr(other, name, value[::-1] if name == "moas" else value.flip(0))
    assert describe_changes(settings(config), settings(config, other)).startswith("data.path=")


def test_data_are_named_by_their_table(tmp_path):
    models = {name: tmp_path / name for name in ("classifier", "reference")}
    evaluation = TrainingEvalConfig(judge=tmp_path / "judge")
    first, moved = (
        replace(CONFIG, data=DataConfig(path=tmp_path / name), reward=RewardConfig(**models), eval=evaluation)
        for name in "ab"
    )
    assert settings(first) == settings(moved) != settings(first, ToyCells(61))
