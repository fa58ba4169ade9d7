"""Real pairs beside the rows of a loss: what they hold, ranks, iterations."""

from dataclasses import replace

import torch
from tensordict import TensorDict

from algorithms.recipes.base import PairConfig
from algorithms.recipes.real_pairs import AddRealPairs
from tests.algorithms.recipes.base_toys import FewCells

PAIRS = PairConfig(noise_level=0.0, flip=0.0, condition_dropout=0.0)
ROLLOUT = TensorDict({"action": torch.zeros(6, 1)}, [6])


def two_rows_per_image(rollout, iteration):
    n = 2 * len(rollout)
    return TensorDict({"t": iteration + torch.arange(n) / n}, [n])


def add(rank=0, ranks=1, **fields):
    pairs = {"data": FewCells(), "pairs": PAIRS, "seed": 3} | fields
    return AddRealPairs(build_batch=two_rows_per_image, rank=rank, ranks=ranks, **pairs)


def test_each_row_has_a_treated_image_and_a_control_of_its_plate():
    data = FewCells()
    batch = add()(ROLLOUT, 4)
    assert torch.equal(batch["t"], two_rows_per_image(ROLLOUT, 4)["t"]) and len(batch["real"]) == 12
    source, sample = (
        [int((data.pixels == x).flatten(1).all(1).nonzero()) for x in batch["real", key]] for key in ("x0", "x1")
    )
    assert (data.perturbation[source] == -1).all() and (data.perturbation[sample] >= 0).all()
    assert torch.equal(data.plate[source], data.plate[sample])
    assert torch.equal(batch["real", "condition"], data.conditions[data.perturbation[sample]])
    assert len(batch["real", "t"].unique()) == 12


def test_the_source_has_the_noise_of_the_base():
    noise = add(pairs=replace(PAIRS, noise_level=0.5))(ROLLOUT, 4)["real", "x0"] - add()(ROLLOUT, 4)["real", "x0"]
    assert abs(noise.std() - 0.5) < 0.05


def test_two_ranks_share_the_pairs_of_one():
    whole = add()(ROLLOUT, 4)["real"]
    halves = [add(rank, 2)(ROLLOUT[3 * rank : 3 * rank + 3], 4)["real"] for rank in (0, 1)]
    for key in whole.keys():
        assert torch.equal(whole[key], torch.cat([half[key] for half in halves])), key


def test_iterations_and_seeds_draw_differently():
    t = add()(ROLLOUT, 4)["real", "t"]
    assert not torch.isclose(t, add()(ROLLOUT, 5)["real", "t"]).any()
    assert not torch.isclose(t, add(seed=4)(ROLLOUT, 4)["real", "t"]).any()
