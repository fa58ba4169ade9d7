"""Random checkpoints in the published format, and a literal forward pass of the published architecture.

Both are written from the description of the architecture alone, independently of `cellenv.networks`.

B batch, C image channels, H, W pixels, E embedding size, F feature channels, N pixels in a row.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

CHANNELS, CONDITION, WIDTH, BLOCKS = 3, 1024, 128, 4  # of BBBC021
LEVELS, ATTENTION = 3, 1  # resolutions; the one (from 0) whose features attend to each other


def published_shapes(channels=CHANNELS, condition=CONDITION, width=WIDTH, blocks=BLOCKS):
    """{published name: shape} in the order in which the published network names its parameters."""
    embed, features, shapes = 4 * width, 2 * width, {}

    def put(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def residual(name, incoming):
        put(f"{name}.in_layers.0", incoming)
        put(f"{name}.in_layers.2", features, incoming, 3, 3)
        put(f"{name}.emb_layers.1", 2 * features, embed)
        put(f"{name}.out_layers.0", features)
        put(f"{name}.out_layers.3", features, features, 3, 3)
        if incoming != features:
            put(f"{name}.skip_connection", features, incoming, 1, 1)

    def attention(name):
        put(f"{name}.norm", features)
        put(f"{name}.qkv", 3 * features, features, 1)
        put(f"{name}.proj_out", features, features, 1)

    put("mol_embed_transform", embed, condition)
    put("time_embed.0", embed, width)
    put("time_embed.2", embed, embed)
    put("input_blocks.0.0", features, channels, 3, 3)
    for level in range(LEVELS):
        for block in range(blocks):
            name = f"input_blocks.{level * (blocks + 1) + block + 1}"
            residual(f"{name}.0", features)
            if level == ATTENTION:
                attention(f"{name}.1")
    residual("middle_block.0", features)
    attention("middle_block.1")
    residual("middle_block.2", features)
    for i in range(LEVELS * (blocks + 1)):
        residual(f"output_blocks.{i}.0", 2 * features)
        if i // (blocks + 1) == LEVELS - 1 - ATTENTION:
            attention(f"output_blocks.{i}.1")
    put("out.0", features)
    put("out.2", channels, features, 3, 3)
    return shapes


def random_weights(shapes, seed):
    """Weights that let every one of them count: matrices keep the variance, norms scale by about 1."""
    rng = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=rng)
        matrix = len(shape) > 1
        weights[name] = drawn / math.prod(shape[1:]) ** 0.5 if matrix else 0.2 * drawn + name.endswith("weight")
    return weights


def contents(model, names, namespace=SimpleNamespace):
    """Content of a checkpoint around its `model`; the optimizer has two moments for each of the names.

    namespace: of `args`; the published training script stores a SimpleNamespace.
    """
    raw = [model[name] for name in names]
    moments = {i: {"step": torch.tensor(9.0), "exp_avg": 0.1 * w, "exp_avg_sq": w**2} for i, w in enumerate(raw)}
    group = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.01, "params": list(range(len(raw)))}
    return {
        "model": model,
        "optimizer": {"state": moments, "param_groups": [group]},
        "lr_schedule": {"factor": 1.0, "total_iters": 100, "last_epoch": 99, "_last_lr": [1e-4]},
        "epoch": 99,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
        "args": namespace(dataset="bbbc021", lr=1e-4, output_dir=Path("out"), use_ema=True, resume=None),
    }


def with_ema(raw, means):
    """`model` of a training with EMA."""
    counted = {f"shadow_params.{i}": mean for i, mean in enumerate(means.values())}
    return {"num_updates": torch.tensor(1234), **{f"model.{name}": w for name, w in raw.items()}, **counted}


def literal_velocity(w, x_t, t, condition, width=WIDTH, blocks=BLOCKS):
    """v (B, C, H, W) of the weights w; condition None leaves its embedding out."""

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, h):
        return F.group_norm(h, 32, w[f"{name}.weight"], w[f"{name}.bias"])

    def conv(name, h, padding):
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    def residual(name, h):
        out = conv(f"{name}.in_layers.2", F.silu(norm(f"{name}.in_layers.0", h)), 1)
        scale_shift = linear(f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]  # (B, 2 F, 1, 1)
        half = scale_shift.shape[1] // 2
        out = norm(f"{name}.out_layers.0", out) * (1 + scale_shift[:, :half]) + scale_shift[:, half:]
        out = conv(f"{name}.out_layers.3", F.silu(out), 1)
        return out + (conv(f"{name}.skip_connection", h, 0) if f"{name}.skip_connection.weight" in w else h)

    def attention(name, h):
        flat = norm(f"{name}.norm", h).flatten(2)  # (B, F, N)
        features = flat.shape[1]
        qkv = torch.einsum("of,bfn->bon", w[f"{name}.qkv.weight"][:, :, 0], flat) + w[f"{name}.qkv.bias"][:, None]
        q, k, v = qkv[:, :features], qkv[:, features : 2 * features], qkv[:, 2 * features :]
        share = torch.einsum("bfn,bfm->bnm", q, k).div(features**0.5).softmax(dim=2)  # (B, N, N)
        out = torch.einsum("bnm,bfm->bfn", share, v)
        out = torch.einsum("of,bfn->bon", w[f"{name}.proj_out.weight"][:, :, 0], out)
        return h + (out + w[f"{name}.proj_out.bias"][:, None]).reshape(h.shape)

    def block(name, h):
        h = residual(f"{name}.0", h)
        return attention(f"{name}.1", h) if f"{name}.1.qkv.weight" in w else h

    half = width // 2
    angle = t[:, None] * torch.tensor([10_000 ** (-i / half) for i in range(half)], dtype=t.dtype)
    emb = linear("time_embed.0", torch.cat([angle.cos(), angle.sin()], dim=1))  # (B, E)
    emb = linear("time_embed.2", F.silu(emb))
    if condition is not None:
        emb = emb + linear("mol_embed_transform", condition)

    h = conv("input_blocks.0.0", x_t, 1)
    kept, i = [h], 1
    for level in range(LEVELS):
        for _ in range(blocks):
            h = block(f"input_blocks.{i}", h)
            kept.append(h)
            i += 1
        if level < LEVELS - 1:
            h = (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4
            kept.append(h)
            i += 1
    h = residual("middle_block.2", attention("middle_block.1", residual("middle_block.0", h)))
    for i in range(LEVELS * (blocks + 1)):
        h = block(f"output_blocks.{i}", torch.cat([h, kept.pop()], dim=1))
        if i % (blocks + 1) == blocks and i // (blocks + 1) < LEVELS - 1:
            h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return conv("out.2", F.silu(norm("out.0", h)), 1)
