import json
import pickle
from functools import partial
from itertools import product

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import SerialEnv

from cellenv.env import VirtualCellEnv
from cellenv.generator import SAMPLINGS, CellFlux, GeneratorPolicy, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.solvers import SOLVERS
from cellenv.streams import normal_like
from tests.cellenv.toy_cells import ToyCells

CONFIG = UNetConfig(size=(3, 8, 8), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, dropout=0.0)


@pytest.fixture
def generator():
    network, rng = UNet(CONFIG), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 6)
    return CellFlux(network, CONFIG, Sampling(noise_level=0.5, guidance=0.2, steps=3, solver="heun")).eval()


@pytest.fixture
def contexts():
    return ToyCells().draw_contexts(4, torch.Generator().manual_seed(1))


class StraightPath(torch.nn.Module):
    """v = target - source for any x_t and condition; records the rows and `keep` of every call."""

    def __init__(self, source, target):
        super().__init__()
        self.source, self.target, self.calls = source, target, []

    def forward(self, x_t, t, condition=None, keep=None):
        self.calls.append((len(x_t), None if keep is None else keep.tolist()))
        return torch.zeros_like(x_t) + self.target - self.source


def test_sampling_ends_at_the_target_and_is_clamped(contexts):
    x0, seed = contexts["x0"], contexts["seed"]
    source = x0 + 0.5 * normal_like(x0, seed)
    target = torch.linspace(-2, 2, x0.numel()).reshape(x0.shape)
    generator = CellFlux(StraightPath(source, target), CONFIG, Sampling(noise_level=0.5, steps=5))
    x1, start = generator.sample(x0, contexts["condition"], seed)
    torch.testing.assert_close(start, source, rtol=0, atol=0)
    torch.testing.assert_close(x1, target.clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, [4, 4, 4]),
        ({"guidance": 0.2}, [8, 8, 8]),
        ({"guidance": 0.2, "guidance_from": 1 / 3}, [4, 8, 8]),
        ({"guidance": 0.2, "guidance_from": 0.5}, [4, 4, 8]),
        ({"guidance": 0.2, "guidance_from": 0.9}, [4, 4, 4]),
        ({"guidance": 0.2, "guidance_power": 2.0}, [4, 8, 8]),  # 0.2 x 0^2 is none
        ({"guidance_power": 2.0}, [4, 4, 4]),
    ],
)
def test_guidance_doubles_the_rows_of_each_evaluation_at_which_it_acts(contexts, settings, rows):
    network = StraightPath(0.0, 0.0)
    generator = CellFlux(network, CONFIG, Sampling(steps=3, **settings))
    generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
    assert [n for n, _ in network.calls] == rows


def test_nfe_counts_the_network_evaluations_per_image(contexts):
    for solver, guidance, power, since, steps in product(SOLVERS, (0.0, 0.2), (0.0, 1.0), (0.0, 0.3, 0.7), (1, 3)):
        sampling = Sampling(solver=solver, guidance=guidance, guidance_power=power, guidance_from=since, steps=steps)
        network = StraightPath(0.0, 0.0)
        CellFlux(network, CONFIG, sampling).sample(contexts["x0"], contexts["condition"], contexts["seed"])
        assert sum(n for n, _ in network.calls) == 4 * sampling.nfe
    assert SAMPLINGS["cellflux"].nfe == 200


def test_guidance_extrapolates_from_the_unconditional_velocity(generator, contexts):
    x_t, t, condition = contexts["x0"], torch.tensor([0.0, 0.3, 0.6, 1.0]), contexts["condition"]
    with torch.no_grad():
        with_it, without = generator(x_t, t, condition), generator(x_t, t, None)
        for w in (0.0, 0.2, 3.0):
            generator.guidance = w
            torch.testing.assert_close(generator.guided(x_t, t, condition), (1 + w) * with_it - w * without)
    assert (with_it - without).abs().max() > 1e-2


def test_guidance_acts_on_the_rows_from_its_time_on_alone(generator, contexts):
    x_t, t, condition = contexts["x0"], torch.tensor([0.9, 0.3, 0.6, 0.1]), contexts["condition"]
    with torch.no_grad():
        with_it, without = generator(x_t, t, condition), generator(x_t, t, None)
        guided = generator.guided(x_t, t, condition, Sampling(guidance=2.0, guidance_from=0.6))
    late = torch.tensor([True, False, True, False])
    torch.testing.assert_close(guided[late], (3 * with_it - 2 * without)[late])
    torch.testing.assert_close(guided[~late], with_it[~late])


def test_guidance_grows_with_a_power_of_the_time(generator, contexts):
    x_t, t, condition = contexts["x0"], torch.tensor([0.0, 0.5, 0.2, 1.0]), contexts["condition"]
    with torch.no_grad():
        with_it, without = generator(x_t, t, condition), generator(x_t, t, None)
        guided = generator.guided(x_t, t, condition, Sampling(guidance=2.0, guidance_power=2.0, guidance_from=0.3))
    w = torch.tensor([0.0, 0.5, 0.0, 2.0]).reshape(4, 1, 1, 1)
    torch.testing.assert_close(guided, (1 + w) * with_it - w * without)


def test_a_sample_depends_on_its_own_row_alone(generator, contexts):
    x0, condition, seed = contexts["x0"], contexts["condition"], contexts["seed"]
    x1, source = generator.sample(x0, condition, seed)
    alone, source_alone = generator.sample(x0[2:3], condition[2:3], seed[2:3])
    torch.testing.assert_close(alone, x1[2:3], rtol=0, atol=1e-5)
    assert torch.equal(source_alone, source[2:3])
    other, _ = generator.sample(x0, condition, seed + 1)
    assert (other - x1).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_noise_can_be_left_out(generator, contexts):
    generator.noise_level = 0.0
    _, source = generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
    assert torch.equal(source, contexts["x0"])


def test_policy_reads_and_writes_its_keys(generator, contexts):
    policy = GeneratorPolicy(generator)
    td = policy(contexts.select(*policy.in_keys))
    x1, source = generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
    assert torch.equal(td["action"], x1)
    assert torch.equal(td["source"], source)
    assert not td["action"].requires_grad


@pytest.mark.parametrize("shape", [(), (2, 2), (0,)])
def test_a_batch_of_any_shape_is_drawn_as_its_rows(generator, contexts, shape):
    given = contexts[: torch.Size(shape).numel()]
    td, flat = GeneratorPolicy(generator)(given.reshape(shape)), GeneratorPolicy(generator)(given.copy())
    assert td.batch_size == shape and td["action"].shape == (*shape, 3, 8, 8)
    for key in ("action", "source"):
        assert torch.equal(td[key], flat[key].reshape(td[key].shape))


def test_an_empty_batch_needs_no_network(contexts):
    network = StraightPath(0.0, torch.zeros(0, 3, 8, 8))
    given = contexts[:0]
    x1, source = CellFlux(network, CONFIG).sample(given["x0"], given["condition"], given["seed"])
    assert x1.shape == source.shape == (0, 3, 8, 8) and not network.calls


def test_environments_in_a_row_are_rolled_out(generator):
    envs = SerialEnv(2, [partial(VirtualCellEnv, ToyCells(), batch_size=2, seed=i) for i in range(2)])
    step = envs.rollout(1, GeneratorPolicy(generator))[..., 0]
    for i in range(2):
        row = step[i]
        alone = generator.sample(row["x0"], row["condition"], row["seed"])[0]
        torch.testing.assert_close(row["action"], alone)


def test_save_and_load_give_the_same_pixels(generator, contexts, tmp_path):
    generator.save_pretrained(tmp_path / "g", {"seed": 3})
    loaded = CellFlux.from_pretrained(tmp_path / "g")
    args = contexts["x0"], contexts["condition"], contexts["seed"]
    assert torch.equal(loaded.sample(*args)[0], generator.sample(*args)[0])
    assert loaded.sampling == generator.sampling
    assert not loaded.training
    assert json.loads((tmp_path / "g" / "config.json").read_text())["metadata"] == {"seed": 3}


def spoil(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[7] = value
    return tensor


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("x0", lambda x: x[:, :2], r"x0 needs images.*\(3, 8, 8\); got \(4, 2, 8, 8\)"),
        ("x0", lambda x: x[..., :6], r"\(3, 8, 8\); got \(4, 3, 8, 6\)"),
        ("x0", lambda x: spoil(x, float("nan")), "1 of 768 are nan"),
        ("x0", lambda x: spoil(x, float("inf")), "nan or infinite"),
        ("x0", lambda x: x * 127.5 + 127.5, r"values in \[-1, 1\]; got .* to 2"),
        ("x0", lambda x: (x * 100).to(torch.uint8), "got torch.uint8"),
        ("condition", lambda c: c[:, :4], r"condition needs shape \(4, 5\); got \(4, 4\)"),
        ("condition", lambda c: c[:1], r"\(4, 5\); got \(1, 5\)"),
        ("condition", lambda c: spoil(c, float("nan")), "condition needs finite"),
        ("seed", lambda s: s[:3], "one seed per sample"),
    ],
)
def test_bad_input_is_named(generator, contexts, key, change, message):
    contexts = contexts.to_dict() | {key: change(contexts[key])}
    with pytest.raises(ValueError, match=message):
        generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])


@pytest.mark.parametrize(
    "bad",
    [
        {"solver": "rk45"},
        {"grid": "cosine"},
        {"steps": 0},
        {"grid": "edm", "steps": 1},
        {"guidance": -1.0},
        {"guidance": 1e30},
        {"guidance_from": -0.1},
        {"guidance_from": 1.0},
        {"guidance_from": float("nan")},
        {"guidance_power": -0.5},
        {"guidance_power": 11.0},
        {"guidance_power": float("nan")},
        {"noise_level": -0.1},
        {"noise_level": 1e30},
    ],
)
def test_bad_settings_are_refused_at_once_and_when_set_later(generator, contexts, bad):
    with pytest.raises(ValueError, match="need"):
        Sampling(**bad)
    for name, value in bad.items():
        setattr(generator, name, value)
    with pytest.raises(ValueError, match="need"):
        generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])


def test_an_unknown_name_says_what_is_needed():
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        CellFlux.from_pretrained("no-such-generator")


def test_a_missing_file_is_named(generator, tmp_path):
    generator.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        CellFlux.from_pretrained(tmp_path)


def test_weights_of_another_shape_are_refused(generator, tmp_path):
    generator.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["network"]["width"] = 16
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="do not fit"):
        CellFlux.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"network": {"depth": 3}},
        {"network": {"size": [3, 8]}},
        {"network": {"blocks": 10_000_000}},
        {"network": {"patch": 0}},
        {"sampling": {"steps": 0}},
        {"sampling": {"steps": 1_000_000_000}},
        {"sampling": {"noise_level": float("nan")}},
        {"sampling": {"guidance": "1"}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(generator, tmp_path, damage):
    generator.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for part, values in damage.items():
        config[part] |= values
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: "):
        CellFlux.from_pretrained(tmp_path)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_file_that_holds_code_is_not_run(generator, tmp_path, write):
    generator.save_pretrained(tmp_path)
    with (tmp_path / "model.safetensors").open("wb") as file:
        write(Trap(), file)
    with pytest.raises(ValueError, match="pickle"):
        CellFlux.from_pretrained(tmp_path)
    assert not Trap.sprung


def test_the_policy_keeps_other_keys(generator, contexts):
    td = GeneratorPolicy(generator)(TensorDict({**contexts, "moa": contexts["moa"]}, batch_size=[4]))
    assert set(td.keys()) == {*contexts.keys(), "action", "source"}
