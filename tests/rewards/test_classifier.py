import json

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from rewards.classifier import ClassifierConfig, MoAClassifier
from rewards.judge import JudgeClassifier

BOTH = pytest.mark.parametrize("model", [MoAClassifier, JudgeClassifier])
MOAS = ("Actin disruptors", "Eg5/kinesin", "DNA damage")


def images(n, seed=0):
    return torch.rand(n, 3, 96, 96, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def built(model, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model(MOAS).eval()


@BOTH
def test_saved_is_loaded(model, tmp_path):
    net = built(model)
    net.temperature.fill_(1.7)
    net.save_pretrained(tmp_path / "net.safetensors", {"seed": 0})
    again = model.from_pretrained(tmp_path / "net.safetensors")
    assert torch.equal(again(images(2)), net(images(2)))
    assert (again.moas, again.size, again.channels) == (MOAS, (3, 96, 96), ("actin", "tubulin", "DNA"))
    assert not again.training
    assert json.loads((tmp_path / "net.json").read_text())["training"] == {"seed": 0}


@BOTH
def test_temperature_divides_the_logits_and_leaves_the_features(model):
    net = built(model)
    logits, features = net(images(2)), net.features(images(2))
    net.temperature.fill_(2.0)
    torch.testing.assert_close(net(images(2)), logits / 2)
    assert torch.equal(net.features(images(2)), features)


@BOTH
def test_each_image_is_seen_alone(model):
    net = built(model)
    torch.testing.assert_close(net(images(5))[3:4], net(images(5)[3:4]), rtol=1e-4, atol=1e-5)


@BOTH
def test_one_batch_can_be_learned(model):
    """All parameters get a gradient, and eight images are overfitted in a few steps."""
    net, moa = built(model).train(), torch.arange(8) % 3
    x = interpolate(images(8)[:, :, :6, :6], (96, 96))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(30):
        loss = cross_entropy(net(x), moa)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    assert net(x).argmax(1).equal(moa)


@BOTH
def test_small_enough_to_ship(model):
    assert sum(p.numel() for p in model([f"{i}" for i in range(12)]).parameters()) <= 400_000


@BOTH
@pytest.mark.parametrize("shape", [(3, 96, 96), (2, 1, 96, 96), (2, 3, 64, 64)])
def test_other_images_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"need images of shape \(B, 3, 96, 96\), got"):
        built(model)(torch.zeros(shape))


@BOTH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.masked_fill(x == x.max(), float("nan")), "1 of 55296 are nan or infinite"),
        (lambda x: 127.5 * x + 127.5, r"needs values in \[-1, 1\]; got .* to 25"),
        (lambda x: (127.5 * x + 127.5).byte(), r"got torch.uint8 \(0 to 255: x / 127.5 - 1\)"),
    ],
)
def test_unscaled_and_broken_pixels_are_refused(model, spoil, message):
    with pytest.raises(ValueError, match=message):
        built(model).features(spoil(images(2)))


def test_a_gradient_reaches_the_pixels_and_rounding_is_forgiven():
    x = (1.0005 * images(2).sign()).requires_grad_()
    built(MoAClassifier)(x)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0


@BOTH
def test_images_of_any_float_type_are_computed_in_float32(model):
    net, x = built(model), images(2)
    logits = net(x)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert torch.equal(net(x.to(dtype)), net(x.to(dtype).float()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), logits)
    assert net.double()(x.double()).dtype == torch.float64


def test_cells_without_known_mechanisms_are_refused_by_the_column_that_is_missing():
    with pytest.raises(ValueError, match=r"column.*ANNOT"):
        MoAClassifier(())


def test_channels_need_names():
    with pytest.raises(ValueError, match="a name for each of 5 channels"):
        MoAClassifier(MOAS, size=(5, 96, 96))


def test_a_config_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"a size of 1 or more channels and pixels, got \(0, 16, 16\)"):
        ClassifierConfig(model="MoAClassifier", moas=MOAS, size=(0, 16, 16), channels=("a", "b", "c"))
