import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import Compose

from cellenv.gym.card import Card
from cellenv.pictures import CELL_OUTLINE, composite
from rewards.transforms import ImageReward, WeightedSum
from tests.cellenv.toy_bandit import brightness, toy_world
from tests.cellenv.toy_cells import ToyCells

LONG = "a_name_of_forty_letters_and_some_more_of_them"


@pytest.fixture
def world():
    return toy_world()


def info(**rewards):
    base = {"compound": np.array(["a", "d/e"], object), "moa": np.array(["p", "q"], object)}
    return base | ({"rewards": {name: np.array(values) for name, values in rewards.items()}} if rewards else {})


def test_text_is_compound_and_mechanism_and_then_every_reward(world):
    card = Card(world)
    assert card.text(info(), None) == ["a (p)", "d/e (q)"]
    outcome = TensorDict({"reward": torch.tensor([1.5, float("nan")])}, [2])
    assert card.text(info(bright=[0.123, -12_345.6], contrast=[-1, 2]), outcome) == [
        "a (p)\nreward 1.50\nbright 0.12\ncontrast -1.00",
        "d/e (q)\nreward nan\nbright -1.23e+04\ncontrast 2.00",
    ]


def test_pictures_have_one_size_whatever_the_text(world):
    card, image = Card(world), world.data.pixels[:1]
    texts = ["a (p)", "d/e (q)\nreward -9999.99\ncontrast -1.23e+45", ""]
    shapes = {card.pictures(image, [text])[0].shape for text in texts}
    assert len(shapes) == 1


@pytest.mark.parametrize("text", [f"{LONG} (q)", f"{LONG} -8888.88", f"{LONG} -8.88e+88"])
def test_the_longest_compound_and_reward_fit_beside_the_image(text):
    """Of all that a world may say, nothing reaches under the image."""
    cells = ToyCells()
    if text.endswith("(q)"):
        cells.compounds = ("a", "b", LONG, "d/e")
    name = "r" if text.endswith("(q)") else LONG
    card = Card(toy_world(data=cells, suite=Compose(ImageReward(name, brightness), WeightedSum({name: 1.0}))))
    (picture,) = card.pictures(-torch.ones(1, 3, 8, 8), [text])
    gap = picture[:, card.margin - 4 : card.margin]
    assert (gap == picture[0, 0]).all() and (picture[:, : card.margin] > 100).any()


def test_the_image_is_on_the_right_enlarged(world):
    image = world.data.pixels[:1]
    (picture,) = Card(world).pictures(image, ["a (p)"])
    shown = picture[4 : 4 + 32, -36:-4]
    assert np.array_equal(shown[::4, ::4], composite(image)[0]) and np.array_equal(shown[3::4, 3::4], shown[::4, ::4])


def test_every_image_has_its_own_text(world):
    card, images, texts = Card(world), world.data.pixels[:2], ["a (p)", "d/e (q)"]
    alone = [card.pictures(images[i : i + 1], [texts[i]])[0] for i in (0, 1)]
    assert np.array_equal(card.pictures(images, texts), alone)


def test_masks_are_outlined(world):
    square = torch.zeros(8, 8, dtype=torch.int32)
    square[2:6, 2:6] = 1
    world.masks = lambda images: (torch.zeros(len(images), 8, 8), square.expand(len(images), 8, 8))
    (picture,) = Card(world).pictures(world.data.pixels[:1], ["a (p)"])
    assert (picture == CELL_OUTLINE).all(-1).sum() == 4 * 16 - 4
