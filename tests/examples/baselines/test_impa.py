"""IMPA's networks: what AdaIN sets, what a style depends on."""

import pytest
import torch

from examples.baselines.impa import IMPA, IMPAConfig, ResBlock, adain
from examples.baselines.loading import load_generator
from tests.examples.baselines.impa_toys import SIZES, contexts

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def model():
    return IMPA(SIZES).eval()


def test_adain_sets_mean_and_deviation():
    rng = torch.Generator().manual_seed(3)
    h, mean, std = (torch.randn(size, generator=rng).double() for size in ((3, 5, 7, 5), (3, 5), (3, 5)))
    h, std = 4 * h + 2, std.abs() + 0.1
    out = adain(h, mean, std)
    torch.testing.assert_close(out.mean((2, 3)), mean)
    torch.testing.assert_close(out.std((2, 3), correction=0), std, rtol=1e-5, atol=0)
    torch.testing.assert_close(adain(3 * h + 1, mean, std), out, rtol=1e-5, atol=1e-5)  # its own style is removed


def test_a_style_sets_mean_and_deviation_in_a_block():
    block, h, style = ResBlock(5, 4, 1, 6).double(), torch.randn(3, 5, 7, 5).double(), torch.randn(3, 6).double()
    seen = []
    block.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(h, style)
    mean, std_offset = block.affine[0](style).chunk(2, dim=1)
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(adain(h, mean, 1 + std_offset)))


def test_samples_depend_on_control_condition_and_seed(model):
    x0, condition, _ = contexts()
    seed = torch.arange(4)
    x1, source = model.sample(x0, condition, seed)
    assert source is x0 and x1.shape == x0.shape and x1.abs().max() <= 1
    assert x1.equal(model.sample(x0, condition, seed)[0])
    for other in ((x0, condition, seed + 4), (x0, condition + 1, seed), (-x0, condition, seed)):
        assert not torch.allclose(model.sample(*other)[0], x1)
    alone = model.sample(x0[2:3], condition[2:3], seed[2:3])[0]
    torch.testing.assert_close(alone, x1[2:3])


def test_saved_and_loaded_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = load_generator(tmp_path / "model")
    x0, condition, seed = contexts()
    assert isinstance(again, IMPA)
    assert again.sample(x0, condition, seed)[0].equal(model.sample(x0, condition, seed)[0])


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="divisible by 8; got"):
        IMPAConfig(size=(3, 20, 20))
