"""The pretraining loss on real pairs: its value, its gradient, what it leaves as it was."""

import pytest
import torch
from tensordict import TensorDict

from algorithms.losses.nft import NFTLoss
from algorithms.losses.pretraining import PretrainingLoss
from cellenv.path import lift
from tests.algorithms.matching_toys import SHAPE, draw, models, rows


def batch():
    """Rows of NFT with a real pair beside each."""
    real = {"x0": draw(*SHAPE, seed=5), "x1": draw(*SHAPE, seed=6), "condition": draw(4, 5, seed=7)}
    pairs = TensorDict({key: value.float() for key, value in real.items()}, [4])
    return rows(r=torch.tensor([0.0, 0.3, 0.6, 1.0]), real=pairs.set("t", torch.tensor([0.0, 0.2, 0.7, 0.95])))


def test_it_is_flow_matching_on_the_real_pairs_beside_the_loss():
    theta, old, ref = models()
    alone = NFTLoss(theta, old, ref)
    expected = alone(batch())
    loss = PretrainingLoss(alone, weight=0.3)
    out = loss(batch())
    x0, x1, t, condition = (batch()["real"][key] for key in ("x0", "x1", "t", "condition"))
    v_theta = theta((1 - lift(t, x1)) * x0 + lift(t, x1) * x1, t, condition)
    torch.testing.assert_close(out["loss_pretraining"], 0.3 * (v_theta - (x1 - x0)).square().mean())
    assert set(out.keys()) == set(loss.out_keys) == {*alone.out_keys, "loss_pretraining"}
    assert all(torch.equal(out[key], expected[key]) for key in alone.out_keys)


def test_a_step_goes_to_the_velocity_of_the_real_pairs_and_moves_theta_alone():
    data = batch()
    data["real"]["x0"] = torch.zeros(SHAPE)
    data["real", "t"] = torch.full((4,), 0.5)
    data["real", "condition"] = torch.zeros(4, 5)
    loss = PretrainingLoss(NFTLoss(*models()), weight=1.0)  # v_theta = 0.3 x_t + 0.1 t, and v = 2 x_t
    loss(data)["loss_pretraining"].backward()
    assert loss.matching.model.a.grad < 0
    assert {name for name, p in loss.named_parameters() if p.grad is not None} == {
        "matching.model.a",
        "matching.model.b",
    }


def test_micro_batches_take_their_own_pairs():
    loss, data = PretrainingLoss(NFTLoss(*models()), weight=1.0), batch()
    halves = [loss(data[m::2])["loss_pretraining"] for m in range(2)]
    torch.testing.assert_close(sum(halves) / 2, loss(data)["loss_pretraining"])
    assert not torch.isclose(halves[0], halves[1])


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_must_be_positive(weight):
    with pytest.raises(ValueError, match=f"weight must be > 0, got {weight}"):
        PretrainingLoss(NFTLoss(*models()), weight=weight)
