from dataclasses import replace

import pytest
import torch
from torch.nn.functional import silu

from cellenv.networks import PRESETS, Attention, Residual, UNet, UNetConfig, group_norm, timestep_embedding
from cellenv.path import lift

LEVELS = UNetConfig(size=(3, 32, 32), condition_dim=5, width=8, multipliers=(1, 2, 2), dropout=0.0, patch=2)
TINY = UNetConfig(size=(3, 8, 12), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, dropout=0.0, patch=2)


@pytest.fixture
def network():
    """All weights random: before training the output is zero whatever goes in."""
    return scrambled(UNet(TINY).double())


def scrambled(module):
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype) / 4)
    return module


@pytest.fixture
def inputs():
    rng = torch.Generator().manual_seed(1)
    x_t = torch.randn(4, 3, 8, 12, dtype=torch.float64, generator=rng)
    t = torch.rand(4, dtype=torch.float64, generator=rng)
    return x_t, t, torch.randn(4, 5, dtype=torch.float64, generator=rng)


def test_published_size():
    with torch.device("meta"):
        network = UNet(PRESETS["cellflux-bbbc021"])
    state = network.state_dict()
    assert len(state) == 392
    assert sum(value.numel() for value in state.values()) == 56_201_219


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mol_embed_transform.weight", (512, 1024)),
        ("time_embed.0.weight", (512, 128)),
        ("time_embed.2.weight", (512, 512)),
        ("input_blocks.0.0.weight", (256, 3, 3, 3)),
        ("input_blocks.1.0.in_layers.2.weight", (256, 256, 3, 3)),
        ("input_blocks.1.0.emb_layers.1.weight", (512, 512)),
        ("input_blocks.6.0.out_layers.3.weight", (256, 256, 3, 3)),
        ("input_blocks.6.1.qkv.weight", (768, 256, 1)),
        ("middle_block.1.qkv.weight", (768, 256, 1)),
        ("middle_block.1.norm.weight", (256,)),
        ("middle_block.1.proj_out.weight", (256, 256, 1)),
        ("output_blocks.0.0.skip_connection.weight", (256, 512, 1, 1)),
        ("out.0.weight", (256,)),
        ("out.2.weight", (3, 256, 3, 3)),
    ],
)
def test_published_names(name, shape):
    with torch.device("meta"):
        network = UNet(PRESETS["cellflux-bbbc021"])
    assert tuple(network.state_dict()[name].shape) == shape


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_run_at_their_size(preset):
    config = PRESETS[preset]
    with torch.device("meta"):
        v = UNet(config)(torch.empty(2, *config.size), torch.empty(2), torch.empty(2, config.condition_dim))
    assert v.shape == (2, *config.size)


def test_velocity_is_zero_before_training_and_so_is_every_residual(inputs):
    assert not UNet(TINY).double()(*inputs).any()
    block = UNet(TINY).double().middle_block
    h, emb = torch.randn(2, 16, 2, 3, dtype=torch.float64), torch.randn(2, 32, dtype=torch.float64)
    torch.testing.assert_close(block(h, emb), h)


def test_a_network_that_predicts_x1_ends_there_in_one_step(network, inputs):
    x_t, t, condition = inputs
    t = 0.9 * t
    other = UNet(replace(TINY, predicts="x1")).double()
    other.load_state_dict(network.state_dict())
    end = x_t + lift(1 - t, x_t) * other(x_t, t, condition)
    torch.testing.assert_close(end, network(x_t, t, condition))


def test_samples_of_a_batch_are_independent(network, inputs):
    whole = network(*inputs)
    single = torch.cat([network(*(value[i : i + 1] for value in inputs)) for i in range(4)])
    torch.testing.assert_close(whole, single)


def test_time_condition_and_image_all_count(network, inputs):
    v = network(*inputs)
    for i in range(3):
        changed = list(inputs)
        changed[i] = changed[i].flip(0)
        assert (network(*changed) - v).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_keep_leaves_the_condition_out_row_by_row(network, inputs):
    x_t, t, condition = inputs
    keep = torch.tensor([True, False, False, True])
    v, with_it, without = network(*inputs, keep), network(*inputs), network(x_t, t)
    torch.testing.assert_close(v[keep], with_it[keep])
    torch.testing.assert_close(v[~keep], without[~keep])
    assert (with_it - without).abs().max() > 1e-3
    zero = network(x_t, t, torch.zeros_like(condition))
    assert (zero - without).abs().max() > 1e-4, "a condition of zeros is a condition: the bias of its embedding stays"


def test_a_left_out_condition_gets_no_gradient(network, inputs):
    x_t, t, condition = inputs
    condition = condition.clone().requires_grad_()
    network(x_t, t, condition, torch.tensor([True, False, True, True])).sum().backward()
    assert condition.grad[1].abs().max() == 0
    assert condition.grad[0].abs().max() > 0


def test_patches_are_channels_and_return_to_their_place(network, inputs):
    """The same weights in a network without patches, fed with patches cut by hand."""
    x_t, t, condition = inputs
    plain = UNet(
        UNetConfig(size=(12, 4, 6), condition_dim=5, width=8, multipliers=(1, 2), blocks=1, dropout=0.0)
    ).double()
    plain.load_state_dict(network.state_dict())
    cut = x_t.reshape(4, 3, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(4, 12, 4, 6)
    v = plain(cut, t, condition).reshape(4, 3, 2, 2, 4, 6).permute(0, 1, 4, 2, 5, 3).reshape(4, 3, 8, 12)
    torch.testing.assert_close(network(x_t, t, condition), v)


def test_residual_block_scales_and_shifts_what_it_normalised():
    block = scrambled(Residual(8, 12, 6, dropout=0.0).double())
    rng = torch.Generator().manual_seed(2)
    h = torch.randn(2, 8, 3, 4, dtype=torch.float64, generator=rng)
    emb = torch.randn(2, 6, dtype=torch.float64, generator=rng)
    scale, shift = block.emb_layers[1](silu(emb))[:, :, None, None].split(12, dim=1)
    inner = block.in_layers[2](silu(block.in_layers[0](h)))
    out = block.out_layers[3](silu(block.out_layers[0](inner) * (1 + scale) + shift))
    torch.testing.assert_close(block(h, emb), block.skip_connection(h) + out)


def test_attention_is_softmax_over_all_pixels():
    layer = scrambled(Attention(8).double())
    h = torch.randn(2, 8, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    q, k, v = (layer.qkv.weight.squeeze(-1) @ layer.norm(h).flatten(2) + layer.qkv.bias[:, None]).chunk(3, dim=1)
    weights = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) / 8**0.5, dim=2)
    out = layer.proj_out.weight.squeeze(-1) @ torch.einsum("bnm,bcm->bcn", weights, v) + layer.proj_out.bias[:, None]
    torch.testing.assert_close(layer(h), h + out.reshape(h.shape))


def test_time_is_not_scaled():
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    features = timestep_embedding(t, 8)
    torch.testing.assert_close(features[:, 0], t.cos())
    torch.testing.assert_close(features[:, 4], t.sin())
    torch.testing.assert_close(features[:, 7], (t * 10_000 ** (-3 / 4)).sin())


@pytest.mark.parametrize(("features", "groups"), [(512, 32), (256, 32), (128, 32), (64, 16), (48, 12), (6, 1), (3, 1)])
def test_groups_adapt_to_the_width(features, groups):
    assert group_norm(features).num_groups == groups


def test_bf16_autocast_stays_close_and_returns_the_type_of_x(network, inputs):
    network, inputs = network.float(), [value.float() for value in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        v = network(*inputs, torch.ones(4, dtype=torch.bool))
    assert v.dtype == torch.float32
    reference = network(*inputs)
    assert (v - reference).pow(2).mean() < 1e-3 * reference.pow(2).mean()


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        UNetConfig(size=(3, 10, 12), multipliers=(1, 2), patch=2)


@pytest.mark.parametrize("blocks", [1, 2])
def test_levels_are_the_layers_of_one_resolution(blocks):
    network = UNet(replace(LEVELS, blocks=blocks))
    seen = {}
    for level in range(3):
        for layer in network.level(level):
            layer.register_forward_pre_hook(lambda layer, inputs, level=level: seen.update({layer: (level, inputs[0])}))
    network(torch.zeros(1, 3, 32, 32), torch.zeros(1), torch.zeros(1, 5))
    assert {(level, h.shape[-1]) for level, h in seen.values()} == {(0, 16), (1, 8), (2, 4)}
    of_levels = [p for level in range(3) for layer in network.level(level) for p in layer.parameters()]
    embeddings = [*network.mol_embed_transform.parameters(), *network.time_embed.parameters()]
    assert len(of_levels) + len(embeddings) == len({*of_levels, *embeddings}) == len(list(network.parameters()))


def test_a_level_that_the_network_lacks_is_refused():
    for level in (-1, 3):
        with pytest.raises(ValueError, match=f"need a level from 0 to 2, got {level}"):
            UNet(LEVELS).level(level)
