"""Train the two networks of a segmenter on synthetic crops and validate them.

B batch, N crops, C channels, H, W pixels. Source of targets and loss: Cellpose (doi:10.1038/s41592-020-01018-x).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from tqdm import tqdm, trange

from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.provenance import shell_command
from algorithms.recipes.fit.segmenter import SegmenterFitConfig
from cellenv.data.synthetic import SyntheticCells
from cellenv.streams import rng_at
from rewards.judge import JudgeSegmenter
from rewards.segmentation import augment
from rewards.segmentation.decode import FLOW_SCALE, decode, postprocess_labels
from rewards.segmentation.embedded import EmbeddedSegmenter, FlowNet, normalise
from rewards.segmentation.targets import unit_flows

MODELS = {"segmenter": EmbeddedSegmenter, "judge": JudgeSegmenter}
SEEDS = {"segmenter": 0, "judge": 1}
CHUNK = 50  # crops rendered at once
CROWD_LAYERS = 4  # times that other cells are put beside those of a crop
CROWD_SHIFT = 44  # px, by which they are moved at most
MAX_ZOOM = 1.8
MIN_AREA = 20  # px^2; smaller objects of a crop are removed
ESTIMATED_SCENES, ESTIMATED_STEPS = 16, 4  # what an estimate measures

Crowd = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # images and labels, twice -> once


@dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """One of the two networks, and how it is trained."""

    name: str
    network: FlowNet
    channels: tuple[str, ...]  # that it sees
    crowd: Crowd  # adds other objects to an image
    steps: int  # of the optimizer
    smallest: int  # px^2; smaller objects are removed from its output
    stream: int  # of the seed; also the index of its objects in `SyntheticCells.masks`


@dataclass(frozen=True)
class Scenes:
    """Crops before augmentation: pixels (N, C, H, W) and labels (N, H, W) uint8, unit flows (N, 2, H, W) float16."""

    pixels: Tensor
    labels: Tensor
    flows: Tensor

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images in [0, 1], unit flows and foreground in {0, 1} of these rows, float32."""
        return self.pixels[rows].float() / 255, self.flows[rows].float(), (self.labels[rows] > 0).float()


def build_tasks(segmenter: EmbeddedSegmenter, config: SegmenterFitConfig) -> tuple[NetworkTask, NetworkTask]:
    """The tasks of the nucleus network and of the cell network."""
    nuclei = NetworkTask(
        name="nuclei",
        network=segmenter.nuclei,
        channels=("DNA",),
        crowd=augment.crowd_nuclei,
        steps=config.nucleus_steps,
        smallest=segmenter.config["min_nucleus_area"],
        stream=0,
    )
    cells = NetworkTask(
        name="cells",
        network=segmenter.cells,
        channels=("actin", "tubulin"),
        crowd=augment.crowd_cells,
        steps=config.cell_steps,
        smallest=segmenter.config["min_cell_area"],
        stream=1,
    )
    return nuclei, cells


def make_scenes(data: SyntheticCells, task: NetworkTask, n: int, rng: torch.Generator) -> Scenes:
    """n random crops of the task's channels, crowded with objects of other crops and enlarged."""
    planes = [data.channels.index(name) for name in task.channels]
    pixels, labels, flows = [], [], []
    chunk = min(n, CHUNK)
    for _ in trange(0, n, chunk, desc=f"{' + '.join(task.channels)}, {chunk} at once"):
        rows = torch.randint(len(data), (chunk,), generator=rng)
        image, truth = (data.images(rows)[:, planes] + 1) / 2, data.masks(rows)[task.stream]
        image, truth = crowd(image, truth, task.crowd, rng)
        image, truth = augment.zoom(image, truth, MAX_ZOOM, rng)
        truth = postprocess_labels(truth, MIN_AREA)
        pixels.append((image.clamp(0, 1) * 255).round().byte())
        labels.append(truth.byte())
        flows.append(unit_flows(truth).half())
    return Scenes(*(torch.cat(parts)[:n] for parts in (pixels, labels, flows)))


def crowd(image: Tensor, labels: Tensor, add: Crowd, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add layers of objects from other images of the batch, each layer to half of the images."""
    batch = len(image)
    for _ in range(CROWD_LAYERS):
        others = torch.randperm(batch, generator=rng)
        shifted = augment.shift_objects(image[others], labels[others], CROWD_SHIFT, rng)
        crowded = add(image, labels, *shifted)
        chosen = augment.bernoulli(0.5, batch, rng)  # (B, 1, 1, 1)
        image = torch.where(chosen, crowded[0], image)
        labels = torch.where(chosen[:, 0], crowded[1], labels)
    return image, labels


def flow_loss(network: FlowNet, x: Tensor, flows: Tensor, mask: Tensor) -> Tensor:
    """1/2 |out - 5 flow|^2 + cross-entropy of the foreground, the loss of Cellpose; images x (B, C, H, W) in [0, 1]."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        out = network(normalise(2 * x - 1))  # (B, 3, H, W)
    out = out.float()
    return mse_loss(out[:, :2], FLOW_SCALE * flows) / 2 + binary_cross_entropy_with_logits(out[:, 2], mask)


def draw_batch(scenes: Scenes, rows: Tensor, empty: float, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented images in [0, 1], their flows and foreground; a fraction `empty` of the images shows no object."""
    x, flows, mask = augment.random_symmetry(*scenes.draw(rows), rng)
    x = augment.degrade(x, rng)
    blank = augment.bernoulli(empty, len(x), rng)  # (B, 1, 1, 1)
    x = torch.where(blank, augment.empty_images_like(x, rng), x)
    return x, torch.where(blank, 0, flows), torch.where(blank[:, 0], 0, mask)


def train(task: NetworkTask, scenes: Scenes, config: SegmenterFitConfig, rng: torch.Generator) -> float:
    """Train the network of a task with AdamW on one learning rate cycle; returns the running mean of its loss."""
    network = task.network.train().requires_grad_(True)
    lr = config.learning_rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=task.steps, pct_start=0.1)
    mean = float("nan")
    for step in (bar := trange(task.steps, desc=task.name, mininterval=2.0)):
        rows = torch.randint(len(scenes.pixels), (config.batch_size,), generator=rng)
        x, flows, mask = draw_batch(scenes, rows, config.empty, rng)
        loss = flow_loss(network, x.contiguous(memory_format=torch.channels_last), flows, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}")
    network.eval().requires_grad_(False)
    return mean


def average_precision(found: Tensor, truth: Tensor, min_iou: float = 0.5) -> float:
    """TP / (TP + FP + FN) over all images, with IoU > min_iou as a match. found, truth: (B, H, W) labels."""
    hits = n_found = n_truth = 0
    for a, b in zip(found.long(), truth.long(), strict=True):
        rows, columns = int(a.max()) + 1, int(b.max()) + 1
        both = torch.bincount((a * columns + b).flatten(), minlength=rows * columns)
        both = both.reshape(rows, columns)  # pixels of (found, truth)
        union = both.sum(1, keepdim=True) + both.sum(0, keepdim=True) - both
        hits += int((both / union.clamp(min=1) > min_iou)[1:, 1:].sum())
        n_found += len(both[1:].sum(1).nonzero())
        n_truth += len(both[:, 1:].sum(0).nonzero())
    return hits / max(n_found + n_truth - hits, 1)


@torch.no_grad()
def validate(task: NetworkTask, scenes: Scenes, rng: torch.Generator) -> dict[str, float]:
    """Foreground IoU and AP at IoU 0.5 on degraded crops, and the false positive rate on images without objects."""
    union = both = 0.0
    found, truth, false_positives = [], [], 0
    for rows in tqdm(torch.arange(len(scenes.pixels)).split(64), desc="validation"):
        x = augment.degrade(scenes.draw(rows)[0], rng)
        found.append(segment(task, x))
        truth.append(scenes.labels[rows].int())
        both += float(((found[-1] > 0) & (truth[-1] > 0)).sum())
        union += float(((found[-1] > 0) | (truth[-1] > 0)).sum())
        false_positives += int((segment(task, augment.empty_images_like(x, rng)) > 0).any(2).any(1).sum())
    return {
        "iou": both / max(union, 1),
        "ap50": average_precision(torch.cat(found), torch.cat(truth)),
        "false_positive_rate": false_positives / len(scenes.pixels),
    }


def segment(task: NetworkTask, x: Tensor) -> Tensor:
    """Labels (B, H, W) of images (B, C, H, W) in [0, 1] by the network of a task."""
    out = task.network(normalise(2 * x - 1))  # (B, 3, H, W)
    return postprocess_labels(decode(out[:, :2], out[:, 2]), task.smallest)


def resolve_defaults(config: SegmenterFitConfig) -> tuple[Path, int]:
    """Where the weights go, and the seed; None takes the model's own."""
    weights = MODELS[config.model].shipped if config.weights is None else config.weights
    return weights, SEEDS[config.model] if config.seed is None else config.seed


def initial_segmenter(config: SegmenterFitConfig, seed: int) -> EmbeddedSegmenter:
    """A segmenter with random weights that depend on the seed alone."""
    torch.set_num_threads(config.threads)
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        return MODELS[config.model]()


def fit_segmenter(config: SegmenterFitConfig) -> None:
    """Train and validate both networks, then write the weights with a record of the training, and print the scores.

    Old weights stay until both networks are trained.
    """
    weights, seed = resolve_defaults(config)
    segmenter = initial_segmenter(config, seed)
    cells, validation_cells = SyntheticCells("train", seed=seed), SyntheticCells("validation", seed=seed)
    results = {}
    for task in build_tasks(segmenter, config):
        scenes = make_scenes(cells, task, config.scenes, rng_at(seed, task.stream, 0))
        loss = train(task, scenes, config, rng_at(seed, task.stream, 1))
        held_out = make_scenes(validation_cells, task, config.validation, rng_at(seed, task.stream, 2))
        results[task.name] = {"loss": loss, **validate(task, held_out, rng_at(seed, task.stream, 3))}
    settings = asdict(replace(config, seed=seed))
    del settings["weights"]
    segmenter.save_pretrained(weights, {"command": shell_command(), "config": settings, "results": results})
    Console().print(results_table(results, str(weights)))


def results_table(results: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Scores of the networks, one row each."""
    table = Table("network", "loss", "IoU", "AP 0.5", "false positive rate on empty images", title=title)
    for name, scores in results.items():
        table.add_row(name, *(f"{scores[key]:.3f}" for key in ("loss", "iou", "ap50", "false_positive_rate")))
    return table


def estimate_fit(config: SegmenterFitConfig) -> Estimate:
    """Scale the time of a few scenes, optimizer steps and validation crops of each network to the whole fit."""
    _, seed = resolve_defaults(config)
    cells = SyntheticCells("train", seed=seed)
    tasks = build_tasks(initial_segmenter(config, seed), config)
    seconds = sum(estimated_seconds(task, config, cells, rng_at(seed, task.stream)) for task in tasks)
    return Estimate(nfe=0, seconds=seconds, memory=peak_memory())


def estimated_seconds(
    task: NetworkTask, config: SegmenterFitConfig, cells: SyntheticCells, rng: torch.Generator
) -> float:
    """Time of one network's scenes, training and validation."""
    short = replace(task, steps=ESTIMATED_STEPS)
    scenes = make_scenes(cells, task, ESTIMATED_SCENES, rng)
    making = seconds_of(lambda: make_scenes(cells, task, ESTIMATED_SCENES, rng)) / ESTIMATED_SCENES
    step = seconds_of(lambda: train(short, scenes, config, rng)) / ESTIMATED_STEPS
    validation = seconds_of(lambda: validate(task, scenes, rng)) / ESTIMATED_SCENES
    return making * (config.scenes + config.validation) + step * task.steps + validation * config.validation
