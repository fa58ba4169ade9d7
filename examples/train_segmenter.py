"""Train a segmenter on synthetic cells with known truth: the rewarding one, or the judge. Five minutes of one core.

python examples/train_segmenter.py
python examples/train_segmenter.py --preset judge
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    model: Literal["segmenter", "judge"] = "segmenter"
    weights: Path | None = None  # a .safetensors file, its JSON beside it; where the model's are shipped when None
    scenes: int = 3000  # crops with their truth, for each network
    nucleus_steps: int = 2000  # optimiser steps
    cell_steps: int = 3000  # optimiser steps
    batch: int = 16  # images per step
    learning_rate: float = 2e-3  # highest, after the warm-up
    empty: float = 0.06  # share of training images that show nothing
    validation: int = 256  # crops
    seed: int | None = None  # also of the world that is drawn from; 0, or 1 of the judge, when None
    threads: int = 1


PRESETS = {
    "default": Config(),
    "judge": Config(model="judge"),
    "smoke": Config(  # what CI runs
        weights=Path("runs/segmenter.safetensors"), scenes=16, nucleus_steps=2, cell_steps=2, batch=4, validation=8
    ),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from tqdm import tqdm, trange

from cellenv.data.synthetic import SyntheticCells
from cellenv.streams import rng_at
from rewards.judge import JudgeSegmenter
from rewards.segmentation import augment
from rewards.segmentation.decode import FLOW_SCALE, decode, tidy
from rewards.segmentation.embedded import EmbeddedSegmenter, FlowNet, normalise
from rewards.segmentation.targets import unit_flows

MODELS = {"segmenter": EmbeddedSegmenter, "judge": JudgeSegmenter}
SEEDS = {"segmenter": 0, "judge": 1}
NUCLEI, CELLS = 0, 1  # names of random streams


@dataclass(frozen=True)
class Scenes:
    """Crops that are ready to be flipped and blurred: pixels (N, C, H, W) and labels (N, H, W) as bytes, flows half."""

    pixels: Tensor
    labels: Tensor
    flows: Tensor

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images in [0, 1], unit flows, masks in {0, 1}; float32."""
        return self.pixels[rows].float() / 255, self.flows[rows].float(), (self.labels[rows] > 0).float()


def make_scenes(
    data: SyntheticCells, channels: tuple[str, ...], which: int, crowd: Callable, n: int, rng: torch.Generator
) -> Scenes:
    """n crops of the named channels: crowded with others, enlarged up to 1.8 times."""
    planes = [data.channels.index(name) for name in channels]
    pixels, labels, flows = [], [], []
    some = min(n, 50)
    for _ in trange(0, n, some, desc=f"{' + '.join(channels)}, {some} at once"):
        rows = torch.randint(len(data), (some,), generator=rng)
        image, truth = (data.images(rows)[:, planes] + 1) / 2, data.masks(rows)[which]
        for _ in range(4):  # layers of other cells
            turned = torch.randperm(some, generator=rng)
            crowded = crowd(image, truth, *augment.scatter(image[turned], truth[turned], 44, rng))
            chosen = augment.chance(0.5, some, rng)
            image = torch.where(chosen, crowded[0], image)
            truth = torch.where(chosen[:, 0], crowded[1], truth)
        image, truth = augment.zoom(image, truth, 1.8, rng)
        truth = tidy(truth, 20)
        pixels.append((image.clamp(0, 1) * 255).round().byte())
        labels.append(truth.byte())
        flows.append(unit_flows(truth).half())
    return Scenes(*(torch.cat(parts)[:n] for parts in (pixels, labels, flows)))


def loss_of(network: FlowNet, x: Tensor, flows: Tensor, mask: Tensor) -> Tensor:
    """1/2 |out - 5 flow|^2 + cross entropy of being inside, as Cellpose is trained."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        out = network(normalise(2 * x - 1))  # (B, 3, H, W)
    out = out.float()
    return mse_loss(out[:, :2], FLOW_SCALE * flows) / 2 + binary_cross_entropy_with_logits(out[:, 2], mask)


def corrupt(scenes: Scenes, rows: Tensor, empty: float, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images in [0, 1] as a microscope might give them, with their targets; some without any object."""
    x, flows, mask = augment.turn(*scenes.draw(rows), rng)
    x, blank = augment.optics(x, rng), augment.chance(empty, len(x), rng)
    x = torch.where(blank, augment.nothing_like(x, rng), x)
    return x, torch.where(blank, 0, flows), torch.where(blank[:, 0], 0, mask)


def fit(network: FlowNet, scenes: Scenes, steps: int, config: Config, rng: torch.Generator, name: str) -> float:
    """Train one network; returns its loss, averaged over the last steps."""
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    mean = float("nan")
    for step in (bar := trange(steps, desc=name, mininterval=2.0)):
        rows = torch.randint(len(scenes.pixels), (config.batch,), generator=rng)
        x, flows, mask = corrupt(scenes, rows, config.empty, rng)
        loss = loss_of(network, x.contiguous(memory_format=torch.channels_last), flows, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}")
    network.eval().requires_grad_(False)
    return mean


def average_precision(found: Tensor, truth: Tensor, least: float = 0.5) -> float:
    """TP / (TP + FP + FN) of objects that overlap with IoU > `least`, over all images; (B, H, W) labels each."""
    hits = n_found = n_truth = 0
    for a, b in zip(found.long(), truth.long(), strict=True):
        both = torch.bincount((a * (b.max() + 1) + b).flatten(), minlength=int((a.max() + 1) * (b.max() + 1)))
        both = both.reshape(int(a.max()) + 1, int(b.max()) + 1)  # pixels of (found, truth)
        union = both.sum(1, keepdim=True) + both.sum(0, keepdim=True) - both
        hits += int((both / union.clamp(min=1) > least)[1:, 1:].sum())
        n_found, n_truth = n_found + len(both[1:].sum(1).nonzero()), n_truth + len(both[:, 1:].sum(0).nonzero())
    return hits / max(n_found + n_truth - hits, 1)


@torch.no_grad()
def validate(network: FlowNet, scenes: Scenes, smallest: int, rng: torch.Generator) -> dict[str, float]:
    """On spoiled crops IoU of the foreground and AP at IoU 0.5; the share of empty images where something is found."""
    parts = torch.arange(len(scenes.pixels)).split(64)
    union = both = 0.0
    found, truth, ghosts = [], [], 0
    for rows in tqdm(parts, desc="validation"):
        x = augment.optics(scenes.draw(rows)[0], rng)
        out = network(normalise(2 * x - 1))
        found.append(tidy(decode(out[:, :2], out[:, 2]), smallest))
        truth.append(scenes.labels[rows].int())
        both += float(((found[-1] > 0) & (truth[-1] > 0)).sum())
        union += float(((found[-1] > 0) | (truth[-1] > 0)).sum())
        out = network(normalise(2 * augment.nothing_like(x, rng) - 1))
        ghosts += int((tidy(decode(out[:, :2], out[:, 2]), smallest) > 0).any(2).any(1).sum())
    ap = average_precision(torch.cat(found), torch.cat(truth))
    return {"iou": both / max(union, 1), "ap50": ap, "ghosts": ghosts / len(scenes.pixels)}


def settled(config: Config) -> Config:
    """With the model's own place and seed where none is given."""
    weights = MODELS[config.model].shipped if config.weights is None else config.weights
    return replace(config, weights=weights, seed=SEEDS[config.model] if config.seed is None else config.seed)


def main(config: Config) -> dict[str, dict[str, float]]:
    """Train both networks, check them on the validation split, write weights and record; whole or not at all."""
    config = settled(config)
    torch.set_num_threads(config.threads)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # initial weights
        segmenter = MODELS[config.model]()
    kinds = (
        ("nuclei", NUCLEI, segmenter.nuclei, ("DNA",), augment.crowd_nuclei, config.nucleus_steps, "least_nucleus"),
        ("cells", CELLS, segmenter.cells, ("actin", "tubulin"), augment.crowd_cells, config.cell_steps, "least_cell"),
    )
    train, validation = SyntheticCells("train", seed=config.seed), SyntheticCells("validation", seed=config.seed)
    command = shlex.join(["python", "examples/train_segmenter.py", *sys.argv[1:]])
    settings = {key: value for key, value in asdict(config).items() if key != "weights"}
    results = {}
    for name, which, network, channels, crowd, steps, smallest in kinds:
        scenes = make_scenes(train, channels, which, crowd, config.scenes, rng_at(config.seed, which, 0))
        loss = fit(network, scenes, steps, config, rng_at(config.seed, which, 1), name)
        held_out = make_scenes(validation, channels, which, crowd, config.validation, rng_at(config.seed, which, 2))
        rng = rng_at(config.seed, which, 3)
        scores = validate(network, held_out, segmenter.config[smallest], rng)
        results[name] = {"loss": loss, **scores}
    segmenter.save_pretrained(config.weights, {"command": command, "config": settings, "results": results})
    table = Table("network", "loss", "IoU", "AP 0.5", "finds something in nothing", title=str(config.weights))
    for name, row in results.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in ("loss", "iou", "ap50", "ghosts")))
    Console().print(table)
    return results


if __name__ == "__main__":
    main(CONFIG)
