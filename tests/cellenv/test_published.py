import argparse
import sys
import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS, UNet, UNetConfig
from cellenv.published import detect_config, read_published, read_safely
from tests.cellenv.published_toys import contents, literal_velocity, published_shapes, random_weights, with_ema

SMALL = UNetConfig(size=(3, 8, 8), condition_dim=5, width=64, blocks=1, dropout=0.3)
SHAPES = published_shapes(channels=3, condition=5, width=64, blocks=1)
RAW, MEANS = random_weights(SHAPES, 0), random_weights(SHAPES, 1)
FEW = {"size": (1, 4, 4), "condition_dim": 2, "width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "cellflux.pth"
    torch.save(contents(with_ema(RAW, MEANS), [f"model.{name}" for name in RAW]), path)
    return path


@pytest.fixture
def save(tmp_path):
    """content -> a file that holds it."""

    def write(content, **options):
        torch.save(content, tmp_path / "c.pth", **options)
        return tmp_path / "c.pth"

    return write


def few_weights():
    """The weights of a network that is written in no time."""
    return {name: torch.ones_like(value) for name, value in UNet(UNetConfig(**FEW)).state_dict().items()}


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
def test_the_network_is_the_one_that_the_paper_describes(file, kind, weights):
    published = read_published(file, weights=kind, network=SMALL)
    same_output(CellFlux.from_published(published), weights, width=64, blocks=1)
    assert published.metadata["weights"] == kind


@pytest.mark.slow
def test_the_network_at_full_size(save):
    means = random_weights(published_shapes(), 1)
    generator = CellFlux.from_pretrained(save({"model": with_ema(means, means), "epoch": 1}))
    assert generator.config == PRESETS["cellflux-bbbc021"]
    same_output(generator, means, batch=1)


def test_the_comparison_sees_every_weight():
    """Each one moves the literal velocity, so that none can be lost, and no two swapped, without a difference."""
    weights = {name: value.clone().requires_grad_() for name, value in MEANS.items()}
    literal_velocity(weights, *inputs(SMALL), width=64, blocks=1).pow(2).sum().backward()
    assert min(value.grad.norm() for value in weights.values()) > 1e-3


@pytest.mark.parametrize("prefix", ["", "module."])
def test_without_ema_the_weights_are_the_models(save, prefix):
    path = save({"model": {f"{prefix}{name}": value for name, value in RAW.items()}})
    published = read_published(path, network=SMALL)
    assert all(torch.equal(published.weights[name], value) for name, value in RAW.items())
    assert published.metadata["weights"] == "raw" and published.metadata["epoch"] is None


@pytest.mark.parametrize("prefix", ["module.model.", "model.module."])
def test_prefixes_of_parallel_training_are_taken_off(save, prefix):
    outer = prefix.startswith("module.") * "module."
    model = {f"{prefix}{name}": value for name, value in RAW.items()}
    model |= {f"{outer}shadow_params.{i}": value for i, value in enumerate(MEANS.values())}
    for kind, weights in (("ema", MEANS), ("raw", RAW)):
        read = read_published(save({"model": model}), weights=kind, network=SMALL).weights
        assert all(torch.equal(read[name], value) for name, value in weights.items())


def test_means_are_counted_as_the_file_names_the_weights(save):
    """A network that names its condition's embedding last: its means come in that order too."""
    names = sorted(SHAPES, key=lambda name: name.startswith("mol_embed"))
    assert names != list(SHAPES)
    model = with_ema({name: RAW[name] for name in names}, {name: MEANS[name] for name in names})
    read = read_published(save({"model": model}), network=SMALL).weights
    assert list(read) == list(SHAPES)
    assert all(torch.equal(read[name], value) for name, value in MEANS.items())


def test_half_precision_becomes_float32(save):
    weights = {name: value.bfloat16() for name, value in few_weights().items()}
    read = read_published(save({"model": weights}), network=UNetConfig(**FEW)).weights
    assert {value.dtype for value in read.values()} == {torch.float32}


def test_the_rest_is_read_as_it_was_written(file):
    content = read_safely(file)
    assert content["epoch"] == 99 and content["optimizer"]["state"][0]["step"] == 9
    assert content["args"].lr == 1e-4 and content["args"].output_dir == PurePosixPath("out")


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize(("name", "pure"), [("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath)])
def test_paths_of_every_system_and_python_become_pure_ones(save, monkeypatch, module, name, pure):
    foreign = type(name, (), {"__module__": module, "__reduce__": lambda self: (type(self), ("a", "b"))})
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setattr(sys.modules[module], name, foreign, raising=False)
    path = save({"args": foreign()})
    monkeypatch.undo()
    assert read_safely(path)["args"] == pure("a/b") and type(read_safely(path)["args"]) is pure


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    ("guest", "name"),
    [(Trap(), "setattr"), (np.float64(3), r"numpy.*scalar"), (print, "print")],
)
@pytest.mark.parametrize("place", ["model", "args"])
def test_other_classes_and_functions_are_named_and_not_run(save, guest, name, place):
    with pytest.raises(ValueError, match=rf"c\.pth wants \S*{name}.*not read.*trust.*torch\.save"):
        read_published(save({"model": few_weights(), place: guest}))
    assert not Trap.sprung


def test_the_advice_of_the_refusal_works(save):
    content = {"model": few_weights(), "args": np.float64(3), "epoch": 4}
    trusted = torch.load(save(content), weights_only=False)
    path = save({"model": trusted["model"], "epoch": trusted["epoch"]})
    assert read_published(path, network=UNetConfig(**FEW)).metadata["epoch"] == 4


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_newer_pickle_is_refused_without_being_run(save):
    with pytest.raises(ValueError, match=r"wants 'Unsupported operand.*not read"):
        read_published(save({"model": Trap()}, pickle_protocol=4))
    assert not Trap.sprung


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_named(file, tmp_path, share):
    content = file.read_bytes()
    (tmp_path / "short.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"short\.pth is .*anew"):
        read_published(tmp_path / "short.pth", network=SMALL)


def test_a_flipped_bit_anywhere_is_found_or_does_no_harm(save, tmp_path):
    clean, rng = save({"model": few_weights()}), np.random.default_rng(0)
    content, found = clean.read_bytes(), 0
    for place in rng.choice(len(content), 120, replace=False):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "spoiled.pth").write_bytes(spoiled)
        try:
            read = read_published(tmp_path / "spoiled.pth", network=UNetConfig(**FEW)).weights
        except ValueError as error:
            assert "spoiled.pth" in str(error)
            found += 1
        else:
            assert all(torch.equal(read[name], value) for name, value in few_weights().items())
    assert found > 30


def test_an_old_archive_and_no_archive_are_named(save, tmp_path):
    with pytest.raises(ValueError, match=r"no archive.*begin.*PK; got"):
        read_published(save({"model": {}}, _use_new_zipfile_serialization=False))
    (tmp_path / "page.pth").write_text("<html>please log in</html>")
    with pytest.raises(ValueError, match=r"no archive.*got b'<htm'"):
        read_published(tmp_path / "page.pth")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth"):
        read_published(tmp_path / "nowhere.pth")


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Write an archive anew with the pickle that `change` makes of its own."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


LOOP = b"\x80\x02ccollections\nOrderedDict\nq\x00" + b"h\x00)R0" * 100_000 + b"}."
COPIES = b"\x80\x02c_codecs\nencode\nq\x00X\x04\x00\x00\x00aaaaq\x01" + b"h\x00(h\x01X\x06\x00\x00\x00latin1tR0" + b"}."


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (LOOP, "more than 500000 operations or 20000 objects"),
        (b"\x80\x02" + b"]" * 600_000 + b".", "more than 500000 operations"),
        (COPIES, r"wants _codecs.encode, which is not read"),
        (
            b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x01\x85R.",
            r"wants torch.FloatTensor, which is not read",
        ),
        (b"\x80\x02(.", "is no checkpoint that torch.save wrote"),
        (b"", "is no checkpoint that torch.save wrote"),
        (b"\x80\x02K\x01Q.", "is no checkpoint that torch.save wrote|wants"),  # a storage named by a number
    ],
)
def test_an_edited_pickle_is_named_before_it_takes_time_or_memory(save, pickled, message):
    with pytest.raises(ValueError, match=rf"c\.pth .*({message})"):
        read_published(rewrite(save({"model": {}}), lambda _: pickled))


def test_a_compressed_archive_is_not_unpacked(save):
    bomb = rewrite(save({"model": {"a": torch.zeros(10**6)}}), lambda content: content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 40_000
    with pytest.raises(ValueError, match=r"c\.pth is damaged.*compressed"):
        read_published(bomb)


@pytest.mark.parametrize(
    ("content", "got"), [([1], "list"), ({"state_dict": {}}, "state_dict"), ({"model": 3}, "model")]
)
def test_a_checkpoint_of_something_else_is_named(save, content, got):
    with pytest.raises(ValueError, match=rf"need a dict with a dict 'model' in it; got .*{got}"):
        read_published(save(content))


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
def test_weights_that_do_not_fit_are_named(save, change, message):
    model = with_ema(few_weights(), few_weights())
    with pytest.raises(ValueError, match=message):
        read_published(save({"model": change(model)}), network=UNetConfig(**FEW))


@pytest.mark.parametrize("name", ["cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"])
def test_presets_are_detected_by_their_sizes(name):
    with torch.device("meta"):
        weights = UNet(PRESETS[name]).state_dict()
    assert detect_config(weights, "file") is PRESETS[name]


def test_unknown_sizes_need_a_config(save):
    with pytest.raises(ValueError, match=r"\(1024, 3\).*cellflux-jump.*got \(2, 1\) in 72 weights.*network="):
        read_published(save({"model": few_weights()}))
    with pytest.raises(ValueError, match=r"got \(None, None\) in 1 weights"):
        read_published(save({"model": {"fc.weight": torch.zeros(2, 2)}}))
    with pytest.raises(ValueError, match="weights must be 'ema' or 'raw'; got 'mean'"):
        read_published(save({"model": few_weights()}), weights="mean")


def test_a_published_file_is_a_generator_and_stays_one_when_it_is_converted(file, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "cellflux-small", SMALL)
    generator = CellFlux.from_pretrained(file)
    same_output(generator, MEANS, width=64, blocks=1)
    assert generator.sampling == SAMPLINGS["cellflux"] and not generator.training
    generator.save_pretrained(tmp_path / "converted")
    again = CellFlux.from_pretrained(tmp_path / "converted")
    assert again.config == SMALL and again.sampling == generator.sampling
    assert all(torch.equal(value, MEANS[name]) for name, value in again.network.state_dict().items())


def test_a_generator_outlives_its_file(file, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(file.read_bytes())
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


@pytest.mark.parametrize("namespace", [SimpleNamespace, argparse.Namespace])
def test_arguments_of_the_training_may_be_either_namespace(tmp_path, namespace):
    file = tmp_path / "cellflux.pth"
    torch.save(contents(with_ema(RAW, MEANS), [f"model.{name}" for name in RAW], namespace), file)
    assert read_published(file, network=SMALL).metadata["epoch"] == 99
