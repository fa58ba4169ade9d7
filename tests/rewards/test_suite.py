"""All rewards as one transform, with changes to the suite and a user's own; and the held-out judges."""

import doctest

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import Compose, TransformedEnv
from torchrl.envs.utils import check_env_specs

import rewards.suite
from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv
from rewards import AveragedOverOrientations, JudgeClassifier, JudgeSegmenter
from rewards.classifier import MoAClassifier
from rewards.measures import measure
from rewards.suite import SUITE, WEIGHTS, RewardSpec, cellflux_rewards, configure, custom_reward, judge_rewards
from rewards.transforms import ImageReward, Measure, Segment
from tests.rewards.reward_toys import (
    MOAS,
    REFERENCE,
    Brightness,
    CountingSegmenter,
    M,
    drawn_images,
    toy_segmenter,
    z_score,
)

PARTS = (toy_segmenter, Brightness(), REFERENCE)
NAMES = [spec.name for spec in SUITE]


def drawn(moa=0):
    return TensorDict({"action": drawn_images(), "moa": torch.full((5,), moa)}, [5])


def sharpness(images):
    return images.diff(dim=3).abs().mean((1, 2, 3))


def nuclear_share(nuclei, images):
    return (nuclei > 0).float().mean((1, 2))


@pytest.fixture(scope="module")
def data():
    return SyntheticCells("test")


@pytest.mark.parametrize("moa", [0, 3])
@pytest.mark.parametrize(("preset", "worst"), [("default", 25.0), ("paper", torch.inf)])
def test_rewards_of_drawn_images(preset, worst, moa):
    """Each rule for what cannot be measured, against arithmetic."""
    scored = cellflux_rewards(*PARTS, preset)(drawn(moa))
    got = {name: value.squeeze(1) for name, value in scored["rewards"].items()}

    def shaped(name, *values):
        return torch.tensor([-min((5.0 if v is None else z_score(name, v, moa)) ** 2, worst) for v in values])

    torch.testing.assert_close(got["containment"], torch.tensor([0.5, 0.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(got["nucleus_size"], shaped("nucleus_area_max", 400, None, 400, None, 400))
    torch.testing.assert_close(got["cell_size"], shaped("cell_area_max", 2000, 2000, 2000, None, None))
    torch.testing.assert_close(got["nucleus_count"], shaped("nucleus_count", 1, 0, 1, 0, 1))
    torch.testing.assert_close(got["cell_count"], shaped("cell_count", 1, 1, 1, 0, 0))
    assert got["roundness"][1:4].tolist() == [-25.0, -1.0, -25.0]
    assert -worst <= got["roundness"][0] < 0
    logits = torch.tensor([0.2, -1.0, -1.0, -1.0, -1.0]).unsqueeze(1) * 4 * torch.arange(M)
    torch.testing.assert_close(got["moa"], logits.softmax(1)[:, moa])
    weights = {"moa": 5, "containment": 2} | dict.fromkeys(NAMES[2:], 1)  # the paper's
    torch.testing.assert_close(scored["reward"].squeeze(1), sum(weights[name] * got[name] for name in NAMES))
    assert set(scored.keys()) == {"action", "moa", "rewards", "reward"}


def test_removing_the_nucleus_does_not_pay():
    with_nucleus, without = cellflux_rewards(*PARTS)(drawn())["reward"][:2, 0]
    assert without < with_nucleus - 20


@pytest.mark.parametrize("name", [*NAMES, "all", "judges", "extra"])
def test_specs_hold_with_each_reward_and_with_all(name, data):
    if name == "judges":
        transform = judge_rewards(Brightness(), toy_segmenter)
        expected = {"moa", "containment"}
    elif name == "extra":
        transform = cellflux_rewards(*PARTS, extra=[sharpness, nuclear_share])
        expected = {*NAMES, "sharpness", "nuclear_share"}
    else:
        expected = set(NAMES) if name == "all" else {name}
        transform = cellflux_rewards(*PARTS, suite=[spec for spec in SUITE if spec.name in expected])
    env = TransformedEnv(VirtualCellEnv(data, batch_size=4, group_size=2, seed=0), transform)
    check_env_specs(env)
    assert set(env.full_reward_spec["rewards"].keys()) == expected
    assert not {"masks", "measures"} & set(env.full_reward_spec.keys())


def test_step_equals_offline(data):
    env = TransformedEnv(VirtualCellEnv(data, batch_size=4, seed=0), cellflux_rewards(*PARTS))
    td = env.reset().set("action", drawn_images()[:4])
    offline = cellflux_rewards(*PARTS)(td.select("action", "moa", "x0"))
    stepped = env.step(td)["next"]
    assert (offline["rewards"] == stepped["rewards"]).all()
    assert torch.equal(offline["reward"], stepped["reward"])


def test_an_empty_batch_has_empty_rewards():
    td = cellflux_rewards()(TensorDict({"action": torch.zeros(0, 3, 96, 96), "moa": torch.zeros(0).long()}, [0]))
    assert td["reward"].shape == (0, 1)
    assert {name: value.shape for name, value in td["rewards"].items()} == dict.fromkeys(NAMES, (0, 1))


def test_the_embedded_suite_prefers_real_images_to_noise(data):
    """With the shipped weights, real images get the rewards of real images on average; noise gets the worst."""
    rows = data.treated[::15]  # 70, of all doses
    td = TensorDict({"action": data.images(rows), "moa": data.compound_moa[data.perturbation[rows]]}, [len(rows)])
    real = {name: value.mean().item() for name, value in cellflux_rewards()(td)["rewards"].items()}
    assert real["moa"] > 0.65
    assert real["containment"] > 0.9
    for name in ("roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count"):
        assert -2 < real[name] < -0.4, name  # E[-z^2] = -1, less where |z| > 5 is clipped or sigma is at its floor

    noise = torch.rand(td["action"].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scored = cellflux_rewards()(TensorDict({"action": noise, "moa": td["moa"]}, [len(rows)]))
    assert scored["reward"].mean() < -20


def test_extra_rewards_enter_the_sum_and_share_the_masks():
    segmenter = CountingSegmenter()
    extra = [sharpness, custom_reward(nuclear_share, weight=-3.0)]
    td = cellflux_rewards(segmenter, *PARTS[1:], extra=extra)(drawn())
    plain = cellflux_rewards(*PARTS)(drawn())
    assert len(segmenter.calls) == 1
    torch.testing.assert_close(td["rewards", "sharpness"].squeeze(1), sharpness(drawn_images()))
    share = (drawn_images()[:, 2] > 0).float().mean((1, 2), keepdim=False).unsqueeze(1)
    torch.testing.assert_close(td["rewards", "nuclear_share"], share)
    torch.testing.assert_close(td["reward"], plain["reward"] + td["rewards", "sharpness"] - 3 * share)


def test_a_changed_suite_changes_the_sum():
    suite = configure(["moa=0", "cell_size=0", "containment=-4"])
    td = cellflux_rewards(*PARTS, suite=suite)(drawn())
    plain = cellflux_rewards(*PARTS)(drawn())["rewards"]
    kept = [name for name in NAMES if name not in ("moa", "cell_size")]
    assert list(td["rewards"].keys()) == kept
    expected = sum((WEIGHTS | {"containment": -4.0})[name] * plain[name] for name in kept)
    torch.testing.assert_close(td["reward"], expected)


def steps_of(transform):
    return {type(step) for step in transform.transforms}


def test_only_what_the_rewards_need_is_loaded(monkeypatch):
    def fails(*_):
        raise AssertionError("loaded")

    for owner in ("EmbeddedSegmenter", "JudgeSegmenter", "MoAClassifier", "JudgeClassifier"):
        monkeypatch.setattr(f"rewards.suite.{owner}.from_pretrained", fails)
    monkeypatch.setattr("rewards.suite.Reference.load", fails)
    by_name = {spec.name: spec for spec in SUITE}
    assert not steps_of(cellflux_rewards(suite=[], extra=[sharpness])) & {Segment, Measure}
    assert not steps_of(cellflux_rewards(classifier=Brightness(), suite=[by_name["moa"]])) & {Segment, Measure}
    masked = steps_of(cellflux_rewards(toy_segmenter, suite=[], extra=[nuclear_share]))
    assert Segment in masked and Measure not in masked
    cellflux_rewards(toy_segmenter, suite=[by_name["containment"]])
    cellflux_rewards(toy_segmenter, reference=REFERENCE, suite=[by_name["roundness"]])
    judge_rewards(segmenter=toy_segmenter, suite=[by_name["containment"], by_name["roundness"]])
    judge_rewards(classifier=Brightness(), suite=[by_name["moa"]])


def test_judges_compute_their_rewards_with_the_held_out_models(data):
    images = data.images(data.treated[::90])
    moa = data.compound_moa[data.perturbation[data.treated[::90]]]
    td = judge_rewards()(TensorDict({"action": images, "moa": moa}, [len(images)]))
    judge = JudgeClassifier.from_pretrained()
    expected = judge(images).softmax(1).gather(1, moa.unsqueeze(1))
    torch.testing.assert_close(td["rewards", "moa"], expected.detach())
    contained = measure(JudgeSegmenter.from_pretrained()(images))["containment"].nan_to_num(0)
    torch.testing.assert_close(td["rewards", "containment"], contained.unsqueeze(1))
    assert set(td.keys()) == {"action", "moa", "rewards"}


def test_judges_are_told_the_channels():
    images = drawn_images()
    td = TensorDict({"action": images.flip(1), "moa": torch.zeros(5, dtype=torch.int64)}, [5])
    flipped = judge_rewards(Brightness(), toy_segmenter, ("DNA", "tubulin", "actin"))(td)
    straight = judge_rewards(Brightness(), toy_segmenter)(drawn())
    torch.testing.assert_close(flipped["rewards", "containment"], straight["rewards", "containment"])


def test_judges_of_a_suite_without_any_do_nothing():
    td = judge_rewards(suite=[spec for spec in SUITE if not spec.has_judge])(drawn())
    assert set(td.keys()) == {"action", "moa"}


def test_a_spec_of_ones_own_may_build_any_image_reward():
    def build(parts):
        return ImageReward("dark", lambda images: -images.mean((1, 2, 3)))

    spec = RewardSpec(name="dark", label="dark", weight=2.0, unit="grey", build=build)
    td = cellflux_rewards(suite=[spec])(drawn())
    torch.testing.assert_close(td["reward"].squeeze(1), -2 * drawn_images().mean((1, 2, 3)))


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="unknown preset 'papr'; there are default, paper"):
        cellflux_rewards(*PARTS, "papr")
    with pytest.raises(ValueError, match="classifier's MoAs"):
        cellflux_rewards(toy_segmenter, MoAClassifier(MOAS[::-1]), REFERENCE)
    with pytest.raises(ValueError, match="classifier's MoAs"):
        cellflux_rewards(toy_segmenter, AveragedOverOrientations(MoAClassifier(MOAS[::-1])), REFERENCE)
    with pytest.raises(ValueError, match=r"different names.* moa, moa"):
        cellflux_rewards(*PARTS, suite=[SUITE[0], SUITE[0]])
    with pytest.raises(ValueError, match="at least one; got none"):
        cellflux_rewards(*PARTS, suite=[])


@pytest.mark.slow
def test_the_examples_of_the_documentation():
    assert doctest.testmod(rewards.suite).failed == 0


def test_transforms_can_be_cloned_with_their_models():
    """The world of the gym clones its suite, since a transform has one parent."""
    suite = cellflux_rewards(*PARTS, extra=[sharpness]).clone()
    assert isinstance(suite, Compose)
    torch.testing.assert_close(suite(drawn())["reward"], cellflux_rewards(*PARTS, extra=[sharpness])(drawn())["reward"])
