import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Unbounded
from torchrl.envs import SerialEnv, Transform, TransformedEnv
from torchrl.envs.utils import check_env_specs

from cellenv.env import VirtualCellEnv, repeat_groups
from tests.cellenv.toy_cells import ToyCells

CONTEXT = ("x0", "perturbation", "condition", "moa", "plate", "group", "seed")


class Brightening(Transform):
    """A reward that needs the action and x0 at the root."""

    def __init__(self):
        super().__init__(in_keys=["action", "x0"], out_keys=[("rewards", "brightening")])

    def _call(self, next_td):
        return next_td

    def _step(self, td, next_td):
        gain = (td["action"] - td["x0"]).flatten(-3).mean(-1, keepdim=True)
        return next_td.set(("rewards", "brightening"), gain)

    def transform_reward_spec(self, reward_spec):
        reward_spec["rewards", "brightening"] = Unbounded((*reward_spec.shape, 1))
        return reward_spec


def make(*, rewarded=False, **settings):
    env = VirtualCellEnv(ToyCells(), **{"batch_size": 6, "group_size": 3, "seed": 0, **settings})
    return TransformedEnv(env, Brightening()) if rewarded else env


@pytest.mark.parametrize("rewarded", [False, True])
@pytest.mark.parametrize("batch_size", [6, (2, 3)])
def test_specs_of_a_locked_env(batch_size, rewarded):
    env = make(batch_size=batch_size, rewarded=rewarded)
    assert env.batch_locked
    check_env_specs(env, break_when_any_done="both")


@pytest.mark.parametrize("rewarded", [False, True])
def test_specs_of_an_unlocked_env(rewarded):
    env = make(batch_size=None, group_size=1, rewarded=rewarded)
    assert not env.batch_locked
    check_env_specs(env)
    check_env_specs(env, tensordict=env.reset(TensorDict(batch_size=[4])))


def test_locked_and_unlocked_envs_live_side_by_side():
    unlocked = make(batch_size=None)
    assert make().batch_locked
    assert not unlocked.batch_locked
    assert unlocked.reset(TensorDict(batch_size=[9])).batch_size == (9,)


def test_no_reward_without_a_transform_and_the_end_after_one_step():
    env = make()
    step = env.step(env.rand_action(env.reset()))["next"]
    assert set(step.keys()) == {*CONTEXT, "done", "terminated"}
    assert step["done"].all()
    assert step["terminated"].all()


def test_action_is_an_image_within_bounds():
    spec = make().action_spec
    assert spec.shape == (6, 3, 8, 8)
    assert (spec.space.low == -1).all()
    assert (spec.space.high == 1).all()


def test_a_group_shares_all_but_its_seed():
    td = make().reset()
    for key in set(CONTEXT) - {"seed"}:
        grouped = td[key].unflatten(0, (2, 3))
        assert (grouped == grouped[:, :1]).all(), key
    assert len(td["group"].unique()) == 2
    assert len(td["seed"].unique()) == 6
    assert not torch.equal(td["x0"][0], td["x0"][3])


def test_a_group_is_named_by_the_seed_of_its_context():
    contexts = ToyCells().draw_contexts(2, torch.Generator().manual_seed(0))
    td = make().reset()
    assert torch.equal(td["group"], contexts["seed"].repeat_interleave(3))
    assert torch.equal(td["seed"], repeat_groups(contexts, 3)["seed"])


def test_groups_of_other_resets_and_workers_are_others():
    env = make(batch_size=60)
    groups = torch.cat([env.reset()["group"] for _ in range(5)])
    assert len(groups.unique()) == 100
    workers = SerialEnv(2, lambda: make(seed=None))
    assert len(workers.reset()["group"].unique()) == 4


def test_a_reset_of_no_images_is_empty():
    env = make(batch_size=None)
    td = env.reset(TensorDict(batch_size=[0]))
    assert env.step(td.set("action", torch.zeros(0, 3, 8, 8)))["next", "done"].shape == (0, 1)


def test_contexts_are_consistent_with_the_data():
    env, data = make(batch_size=60, group_size=1), ToyCells()
    td = env.reset()
    assert torch.equal(td["condition"], data.conditions[td["perturbation"]])
    assert torch.equal(td["moa"], data.compound_moa[td["perturbation"]])
    for x0, plate in zip(td["x0"], td["plate"], strict=True):
        row = int((data.pixels == x0).flatten(1).all(1).nonzero())
        assert data.perturbation[row] == -1
        assert data.plate[row] == plate


def test_same_seed_same_contexts():
    a, b, c = make().reset(), make().reset(), make(seed=1).reset()
    assert (a == b).all()
    assert not torch.equal(a["x0"], c["x0"])
    env = make()
    first, second = env.reset(), env.reset()
    assert not torch.equal(first["seed"], second["seed"])
    env.set_seed(0)
    assert (env.reset() == first).all()


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    env = make()
    env.step(env.reset().set("action", torch.zeros(6, 3, 8, 8)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rewarded", [False, True])
def test_set_state_repeats_contexts_exactly(rewarded):
    env = make(rewarded=rewarded)
    td = env.reset().select(*CONTEXT)
    td["group"] = td["group"] + 40
    again = env.reset(td.clone(), set_state=True)
    assert (again.select(*CONTEXT) == td).all()
    assert not again["done"].any()
    fresh = env.reset(td.clone(), set_state=False)
    assert not torch.equal(fresh["seed"], td["seed"])


def test_set_state_fills_in_group_and_seed():
    env = make()
    td = env.reset().exclude("group", "seed", "done", "terminated")
    full = env.reset(td, set_state=True)
    assert full["group"].tolist() == list(range(6))
    assert len(full["seed"].unique()) == 6
    assert torch.equal(full["x0"], td["x0"])


def test_rewards_see_action_and_x0():
    env = make(rewarded=True)
    td = env.reset()
    action = torch.rand(6, 3, 8, 8) * 2 - 1
    td = env.step(td.set("action", action))
    expected = (action - td["x0"]).mean(dim=(1, 2, 3))
    torch.testing.assert_close(td["next", "rewards", "brightening"].squeeze(-1), expected)


def test_repeat_groups_keeps_the_input_and_names_streams_by_context_and_copy():
    contexts = ToyCells().draw_contexts(3, torch.Generator().manual_seed(0))
    before = contexts.clone()
    grouped = repeat_groups(contexts, 4)
    assert (contexts == before).all()
    assert grouped["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(grouped["x0"], contexts["x0"].repeat_interleave(4, 0))
    alone = repeat_groups(contexts[1:2], 2)
    assert torch.equal(alone["seed"], grouped["seed"][4:6])
    named = repeat_groups(contexts.set("group", torch.tensor([7, 3, 5])), 2)
    assert named["group"].tolist() == [7, 7, 3, 3, 5, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, :1], r"action needs images.*\(3, 8, 8\)"),
        (lambda a: a + 1.5, r"values in \[-1, 1\]"),
        (lambda a: a * float("nan"), "nan"),
    ],
)
def test_bad_actions_are_refused(change, message):
    env = make()
    td = env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(td.set("action", change(torch.zeros(6, 3, 8, 8))))


@pytest.mark.parametrize("settings", [{"batch_size": 4}, {"group_size": 0}])
def test_groups_must_fill_the_batch(settings):
    with pytest.raises(ValueError, match="group_size"):
        make(**settings)


def test_bad_resets_are_refused():
    with pytest.raises(ValueError, match="multiple of group_size 3"):
        make(batch_size=None).reset(TensorDict(batch_size=[4]))
    with pytest.raises(ValueError, match=r"needs a TensorDict with .*missing"):
        make().reset(set_state=True)
    with pytest.raises(ValueError, match=r"'condition'.*missing"):
        make().reset(make().reset().exclude("condition"), set_state=True)
    with pytest.raises(ValueError, match="x0 needs"):
        make().reset(make().reset().apply(lambda x: x * 3), set_state=True)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("perturbation", 999, "perturbation needs 0 to .*; got 999"),
        ("perturbation", -1, "perturbation needs 0 to .*; got -1"),
        ("moa", 99, "moa needs 0 to .*; got 99"),
        ("condition", float("nan"), "condition needs finite values"),
    ],
)
def test_contexts_of_no_compound_are_refused(name, value, message):
    td = make().reset()
    td[name][-1] = value
    with pytest.raises(ValueError, match=message):
        make().reset(td, set_state=True)


def test_conditions_of_another_width_are_refused():
    td = make().reset()
    with pytest.raises(ValueError, match="condition needs shape"):
        make().reset(td.set("condition", td["condition"][:, :1]), set_state=True)
