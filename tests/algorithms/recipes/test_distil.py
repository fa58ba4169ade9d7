from dataclasses import replace

import pytest
import torch

from algorithms.recipes import distil
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet
from tests.algorithms.recipes.recipe_toys import check_flags, check_training, weights
from tests.conftest import TINY

SAMPLING = Sampling(steps=2, noise_level=0.5)


def flattened(model: CellFlux) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.fixture
def distiller(runner):
    """The recipe on the tiny generator, which has no base of its own."""
    return runner(distil, SAMPLING)


def test_it_trains_and_resumes(distiller):
    check_training(distiller, "loss_distil", "--groups 1")
    assert not any(key.startswith("signal_share/") for key in distiller.log("straight")[0])  # of no reward


def test_flags_reach_the_training(distiller):
    check_flags(
        distiller,
        ["--guidance 3", "--guidance-power 1", "--guidance-from 0.9", "--weighting linear", "--times-per-sample 2"],
    )


def test_the_report_compares_with_another_generator_than_the_teacher(distiller, tmp_path):
    other = CellFlux.from_pretrained(distiller.base)
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    other.save_pretrained(tmp_path / "other")
    distiller.run("against", f"--groups 1 --iterations 1 --eval.base {tmp_path / 'other'}")
    assert torch.equal(flattened(distiller.evaluated[-1][0]["base"]), flattened(other))


def test_the_default_compares_with_what_the_teacher_was_trained_from(distiller, tmp_path):
    assert distil.DistilConfig().eval.base == "parent"
    teacher = CellFlux.from_pretrained(distiller.base)
    with torch.no_grad():
        next(teacher.parameters()).mul_(2)
    teacher.save_pretrained(tmp_path / "teacher", {"base": str(distiller.base)})
    distiller.run("child", f"--groups 1 --iterations 1 --generator {tmp_path / 'teacher'}")
    reported = flattened(distiller.evaluated[-1][0]["base"])
    assert torch.equal(reported, weights(distiller.base)) and not torch.equal(reported, flattened(teacher))


def test_a_teacher_without_a_base_is_the_base(distiller):
    distiller.run("orphan", "--groups 1 --iterations 1")
    assert torch.equal(flattened(distiller.evaluated[-1][0]["base"]), weights(distiller.base))


def test_a_base_that_was_trained_anew_is_no_longer_the_teachers(distiller, tmp_path):
    teacher = CellFlux.from_pretrained(distiller.base)
    teacher.save_pretrained(tmp_path / "teacher", {"base": str(distiller.base), "base_weights": "of another"})
    with pytest.raises(ValueError, match=r"--eval\.base .*: this is no longer what --generator was trained from"):
        distiller.run("child", f"--groups 1 --iterations 1 --generator {tmp_path / 'teacher'}")


def test_a_base_that_is_not_there_is_missed_before_the_training(distiller, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--eval\.base .*nothing: no generator at"):
        distiller.run("missing", f"--eval.base {tmp_path / 'nothing'}")
    assert not (tmp_path / "missing" / "log.jsonl").exists()


def test_a_base_of_other_cells_is_refused_by_the_name_of_its_flag(distiller, tmp_path):
    config = replace(TINY, condition_dim=TINY.condition_dim + 1)
    CellFlux(UNet(config), config, SAMPLING).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"--eval\.base .*other: the generator draws"):
        distiller.run("refused", f"--eval.base {tmp_path / 'other'}")


def test_what_chooses_by_reward_is_refused():
    with pytest.raises(ValueError, match="learns from no reward, which --control zero would replace"):
        distil.DistilConfig(control="zero")
    usual = distil.DistilConfig().rollout
    with pytest.raises(ValueError, match=r"leave out --rollout\.train-on"):
        distil.DistilConfig(rollout=replace(usual, train_on=2))
