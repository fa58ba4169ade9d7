import pytest
import torch

from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS, UNet, UNetConfig
from cellenv.published import detect_config, read_published
from tests.cellenv.published_checkpoints import FEW, MEANS, RAW, SHAPES, SMALL, few_weights
from tests.cellenv.published_toys import literal_velocity, published_shapes, random_weights, with_ema


def inputs(config, batch=2):
    rng = torch.Generator().manual_seed(3)
    x_t = torch.randn(batch, *config.size, generator=rng)
    return x_t, torch.rand(batch, generator=rng), torch.randn(batch, config.condition_dim, generator=rng)


def same_output(generator, weights, **sizes):
    """The generator's velocity against the literal reading, with and without the condition."""
    x_t, t, condition = inputs(generator.config, batch=sizes.pop("batch", 2))
    for given in (condition, None):
        expected = literal_velocity(weights, x_t, t, given, **sizes)
        with torch.no_grad():
            torch.testing.assert_close(generator(x_t, t, given), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_names_shapes_and_order_are_those_of_our_network():
    with torch.device("meta"):
        state = UNet(PRESETS["cellflux-bbbc021"]).state_dict()
    shapes = published_shapes()
    assert [(name, tuple(value.shape)) for name, value in state.items()] == list(shapes.items())
    assert len(shapes) == 392 and sum(torch.Size(shape).numel() for shape in shapes.values()) == 56_201_219


@pytest.mark.parametrize(("kind", "weights"), [("ema", MEANS), ("raw", RAW)])
def test_the_network_is_the_one_that_the_paper_describes(published_file, kind, weights):
    published = read_published(published_file, weights=kind, network=SMALL)
    same_output(CellFlux.from_published(published), weights, width=64, blocks=1)
    assert published.metadata["weights"] == kind


@pytest.mark.slow
def test_the_network_at_full_size(save_checkpoint):
    means = random_weights(published_shapes(), 1)
    generator = CellFlux.from_pretrained(save_checkpoint({"model": with_ema(means, means), "epoch": 1}))
    assert generator.config == PRESETS["cellflux-bbbc021"]
    same_output(generator, means, batch=1)


def test_the_comparison_sees_every_weight():
    """Each one moves the literal velocity, so that none can be lost, and no two swapped, without a difference."""
    weights = {name: value.clone().requires_grad_() for name, value in MEANS.items()}
    literal_velocity(weights, *inputs(SMALL), width=64, blocks=1).pow(2).sum().backward()
    assert min(value.grad.norm() for value in weights.values()) > 1e-3


@pytest.mark.parametrize("prefix", ["", "module."])
def test_without_ema_the_weights_are_the_models(save_checkpoint, prefix):
    path = save_checkpoint({"model": {f"{prefix}{name}": value for name, value in RAW.items()}})
    published = read_published(path, network=SMALL)
    assert all(torch.equal(published.weights[name], value) for name, value in RAW.items())
    assert published.metadata["weights"] == "raw" and published.metadata["epoch"] is None


@pytest.mark.parametrize("prefix", ["module.model.", "model.module."])
def test_prefixes_of_parallel_training_are_taken_off(save_checkpoint, prefix):
    outer = prefix.startswith("module.") * "module."
    model = {f"{prefix}{name}": value for name, value in RAW.items()}
    model |= {f"{outer}shadow_params.{i}": value for i, value in enumerate(MEANS.values())}
    for kind, weights in (("ema", MEANS), ("raw", RAW)):
        read = read_published(save_checkpoint({"model": model}), weights=kind, network=SMALL).weights
        assert all(torch.equal(read[name], value) for name, value in weights.items())


def test_means_are_counted_as_the_file_names_the_weights(save_checkpoint):
    """A network that names its condition's embedding last: its means come in that order too."""
    names = sorted(SHAPES, key=lambda name: name.startswith("mol_embed"))
    assert names != list(SHAPES)
    model = with_ema({name: RAW[name] for name in names}, {name: MEANS[name] for name in names})
    read = read_published(save_checkpoint({"model": model}), network=SMALL).weights
    assert list(read) == list(SHAPES)
    assert all(torch.equal(read[name], value) for name, value in MEANS.items())


def test_half_precision_becomes_float32(save_checkpoint):
    weights = {name: value.bfloat16() for name, value in few_weights().items()}
    read = read_published(save_checkpoint({"model": weights}), network=UNetConfig(**FEW)).weights
    assert {value.dtype for value in read.values()} == {torch.float32}


def spoil(name, change):
    return lambda model: model | {name: change(model[name])}


def drop(*names):
    return lambda model: {name: value for name, value in model.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("shadow_params.3"), r"need 72 shadow_params.*got 71, missing shadow_params\.3\. .*raw"),
        (drop(*(f"shadow_params.{i}" for i in range(72))), r"got 0, missing shadow_params\.0, .* and 69 more"),
        (lambda model: model | {"shadow_params.72": torch.ones(1)}, "need 72 .*got 73, missing none"),
        (drop("model.out.0.bias"), r"need 71 shadow_params\.\*.*got 72"),
        (
            drop("model.out.2.bias", "shadow_params.71"),
            r"need the 72 weights.*got 71, missing out\.2\.bias, foreign none",
        ),
        (spoil("shadow_params.2", lambda w: w.T[:1]), r"time_embed\.0\.weight needs \(16, 4\) floats; got \(1, 16\)"),
        (spoil("shadow_params.2", lambda w: w.long()), r"time_embed\.0\.weight needs .*got \(16, 4\) torch\.int64"),
        (spoil("shadow_params.2", lambda w: "w"), r"time_embed\.0\.weight needs .*got str"),
        (spoil("shadow_params.2", lambda w: w / 0), r"time_embed\.0\.weight needs finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(save_checkpoint, change, message):
    model = with_ema(few_weights(), few_weights())
    with pytest.raises(ValueError, match=message):
        read_published(save_checkpoint({"model": change(model)}), network=UNetConfig(**FEW))


@pytest.mark.parametrize("name", ["cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"])
def test_presets_are_detected_by_their_sizes(name):
    with torch.device("meta"):
        weights = UNet(PRESETS[name]).state_dict()
    assert detect_config(weights, "file") is PRESETS[name]


def test_unknown_sizes_need_a_config(save_checkpoint):
    with pytest.raises(ValueError, match=r"\(1024, 3\).*cellflux-jump.*got \(2, 1\) in 72 weights.*network="):
        read_published(save_checkpoint({"model": few_weights()}))
    with pytest.raises(ValueError, match=r"got \(None, None\) in 1 weights"):
        read_published(save_checkpoint({"model": {"fc.weight": torch.zeros(2, 2)}}))
    with pytest.raises(ValueError, match="weights must be 'ema' or 'raw'; got 'mean'"):
        read_published(save_checkpoint({"model": few_weights()}), weights="mean")


def test_a_published_file_is_a_generator_and_stays_one_when_it_is_converted(published_file, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "cellflux-small", SMALL)
    generator = CellFlux.from_pretrained(published_file)
    same_output(generator, MEANS, width=64, blocks=1)
    assert generator.sampling == SAMPLINGS["cellflux"] and not generator.training
    generator.save_pretrained(tmp_path / "converted")
    again = CellFlux.from_pretrained(tmp_path / "converted")
    assert again.config == SMALL and again.sampling == generator.sampling
    assert all(torch.equal(value, MEANS[name]) for name, value in again.network.state_dict().items())


def test_a_generator_outlives_its_file(published_file, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(published_file.read_bytes())
    generator = CellFlux.from_published(read_published(copy, network=SMALL))
    with copy.open("rb+") as stream:
        stream.write(bytes(copy.stat().st_size))
    same_output(generator, MEANS, width=64, blocks=1)


def test_the_published_sampler_makes_100_evaluations_at_the_51_times_of_edm_and_200_nfe():
    calls = []

    def still(x_t, t, condition, keep):
        calls.append((t.tolist(), keep.tolist()))
        return torch.zeros_like(x_t)

    generator = CellFlux(UNet(SMALL), SMALL, SAMPLINGS["cellflux"])
    generator.network.forward = still
    x0, _, condition = inputs(SMALL, batch=1)
    _, source = generator.sample(x0.clamp(-1, 1), condition, torch.tensor([0]))
    assert (source - x0.clamp(-1, 1)).std() == pytest.approx(1.0, rel=0.2)  # 192 draws of N(0, 1)
    assert generator.guidance == 0.2

    assert len(calls) == 100 and sum(len(t) for t, _ in calls) == 200
    assert all(keep == [True, False] and t[0] == t[1] for t, keep in calls)
    sigma = [(80 ** (1 / 7) + i / 49 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(50)] + [0.0]
    grid = [1 / (1 + s) for s in sigma]  # from 1/81
    visited = [t[0] for t, _ in calls]
    assert len(grid) == 51 and visited[::2] == pytest.approx(grid[:-1]) and visited[1::2] == pytest.approx(grid[1:])


def test_a_sampling_is_set_at_once():
    generator = CellFlux(UNet(SMALL), SMALL)
    assert generator.sampling == SAMPLINGS["default"]
    generator.sampling = SAMPLINGS["cellflux"]
    assert generator.sampling == SAMPLINGS["cellflux"]
