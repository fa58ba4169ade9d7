"""Train the two networks of a segmenter on synthetic crops and validate them.

B batch, N crops, C channels, H, W pixels. Source of targets and loss: Cellpose (doi:10.1038/s41592-020-01018-x).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from tqdm import tqdm, trange

from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.launch import has_native_bf16
from algorithms.provenance import shell_command
from algorithms.recipes.fit.segmenter import SegmenterFitConfig
from algorithms.recipes.fit.segmenter_scores import average_precision, results_table
from algorithms.terminal import show
from cellenv.data.synthetic import SyntheticCells
from cellenv.streams import rng_at
from rewards.judge import JudgeSegmenter
from rewards.segmentation import augment
from rewards.segmentation.decode import FLOW_SCALE, postprocess_labels, remove_faint
from rewards.segmentation.embedded import EmbeddedSegmenter, Floors, FlowNet, find_objects, normalise
from rewards.segmentation.targets import unit_flows

MODELS: dict[str, type[EmbeddedSegmenter]] = {"segmenter": EmbeddedSegmenter, "judge": JudgeSegmenter}
SEEDS = {"segmenter": 0, "judge": 1}
CHUNK = 50  # crops rendered at once
CROWD_LAYERS = 4  # times that other cells are put beside those of a crop
CROWD_SHIFT = 44  # px, by which they are moved at most
MAX_ZOOM = 1.8
MASKED = 0.1  # share of the training images where one object alone is left
BACKGROUND = 0.4  # share of the training images with a background that is no object
HIDDEN = 0.1  # mean, in the range of the image, below which such a background hides an object
MIN_AREA = 20  # px^2; smaller objects of a crop are removed
ESTIMATED_SCENES, ESTIMATED_STEPS = 16, 4  # what an estimate measures

Crowd = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # images and labels, twice -> once


class Stage(NamedTuple):
    """A part of the training of a network."""

    steps: int  # of the optimizer
    learning_rate: float  # peak, after the warm-up
    cluttered: bool  # also masked crops, and backgrounds that are no objects


@dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """One of the two networks, and how it is trained."""

    name: str
    network: FlowNet
    channels: tuple[str, ...]  # that it sees
    crowd: Crowd  # adds other objects to an image
    stages: tuple[Stage, ...]
    floors: Floors  # what is removed from its output
    stream: int  # of the seed; also the index of its objects in `SyntheticCells.masks`


@dataclass(frozen=True)
class Scenes:
    """Crops before augmentation: pixels (N, C, H, W) and labels (N, H, W) uint8, unit flows (N, 2, H, W) float16."""

    pixels: Tensor
    labels: Tensor
    flows: Tensor

    def draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images in [0, 1], labels and unit flows of these rows; float32, int32, float32."""
        return self.pixels[rows].float() / 255, self.labels[rows].int(), self.flows[rows].float()


def build_tasks(segmenter: EmbeddedSegmenter, config: SegmenterFitConfig) -> tuple[NetworkTask, NetworkTask]:
    """The tasks of the nucleus network and of the cell network."""
    lr = config.learning_rate
    nuclei = NetworkTask(
        name="nuclei",
        network=segmenter.nuclei,
        channels=("DNA",),
        crowd=augment.crowd_nuclei,
        stages=(Stage(config.nucleus_steps, lr, False),),
        floors=segmenter.nucleus_floors,
        stream=0,
    )
    cells = NetworkTask(
        name="cells",
        network=segmenter.cells,
        channels=("actin", "tubulin"),
        crowd=augment.crowd_cells,
        stages=(
            Stage(config.cell_steps, lr, False),
            Stage(config.clutter_steps, config.clutter_learning_rate, True),
        ),
        floors=segmenter.cell_floors,
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
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=has_native_bf16()):
        out = network(normalise(2 * x - 1))  # (B, 3, H, W)
    out = out.float()
    return mse_loss(out[:, :2], FLOW_SCALE * flows) / 2 + binary_cross_entropy_with_logits(out[:, 2], mask)


def clutter(x: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask the neighbours in some images, and add a background to some; an object that it hides loses its label."""
    x, labels = augment.mask_neighbours(x, labels, MASKED, rng)
    x, changed = augment.add_background(x, BACKGROUND, rng)
    clear = remove_faint(labels, normalise(2 * x - 1).mean(1), HIDDEN)
    return x, torch.where(changed.reshape(-1, 1, 1), clear, labels)


def draw_batch(
    scenes: Scenes, rows: Tensor, *, cluttered: bool, empty: float, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented images in [0, 1], their flows and foreground; a fraction `empty` of the images shows no object."""
    x, labels, flows = scenes.draw(rows)
    if cluttered:
        x, labels = clutter(x, labels, rng)
    mask = (labels > 0).float()
    x, flows, mask = augment.random_symmetry(x, flows * mask.unsqueeze(1), mask, rng)
    x = augment.degrade(x, rng)
    blank = augment.bernoulli(empty, len(x), rng)  # (B, 1, 1, 1)
    x = torch.where(blank, augment.empty_images_like(x, rng), x)
    return x, torch.where(blank, 0, flows), torch.where(blank[:, 0], 0, mask)


def train(task: NetworkTask, scenes: Scenes, config: SegmenterFitConfig, rng: torch.Generator) -> float:
    """Train the network of a task, stage by stage; returns the running mean of its loss, nan without any step."""
    network, loss = task.network.train().requires_grad_(True), float("nan")
    for stage in task.stages:
        if stage.steps:
            loss = train_stage(task, stage, scenes, config, rng)
    network.eval().requires_grad_(False)
    return loss


def train_stage(
    task: NetworkTask, stage: Stage, scenes: Scenes, config: SegmenterFitConfig, rng: torch.Generator
) -> float:
    """AdamW on one learning rate cycle; returns the running mean of the loss."""
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=stage.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, stage.learning_rate, total_steps=stage.steps, pct_start=0.1
    )
    mean = float("nan")
    for step in (bar := trange(stage.steps, desc=task.name, mininterval=2.0)):
        rows = torch.randint(len(scenes.pixels), (config.batch_size,), generator=rng)
        x, flows, mask = draw_batch(scenes, rows, cluttered=stage.cluttered, empty=config.empty, rng=rng)
        loss = flow_loss(task.network, x.contiguous(memory_format=torch.channels_last), flows, mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        bar.set_postfix(loss=f"{mean:.3f}")
    return mean


@torch.no_grad()
def validate(task: NetworkTask, scenes: Scenes, rng: torch.Generator) -> dict[str, float]:
    """Foreground IoU and AP at IoU 0.5 on degraded crops, and the false positive rate on images without objects."""
    union = both = 0.0
    found, truth, false_positives = [], [], 0
    for rows in tqdm(torch.arange(len(scenes.pixels)).split(64), desc="validation"):
        x = augment.degrade(scenes.draw(rows)[0], rng)
        found.append(find_objects(task.network, 2 * x - 1, task.floors))
        truth.append(scenes.labels[rows].int())
        both += float(((found[-1] > 0) & (truth[-1] > 0)).sum())
        union += float(((found[-1] > 0) | (truth[-1] > 0)).sum())
        empty = 2 * augment.empty_images_like(x, rng) - 1
        false_positives += int(find_objects(task.network, empty, task.floors).flatten(1).any(1).sum())
    return {
        "iou": both / max(union, 1),
        "ap50": average_precision(torch.cat(found), torch.cat(truth)),
        "false_positive_rate": false_positives / len(scenes.pixels),
    }


def resolve_defaults(config: SegmenterFitConfig) -> tuple[Path, int]:
    """Where the weights go, and the seed; None takes the model's own."""
    weights = MODELS[config.model].shipped if config.weights is None else config.weights
    return weights, SEEDS[config.model] if config.seed is None else config.seed


def initial_segmenter(config: SegmenterFitConfig, seed: int) -> EmbeddedSegmenter:
    """The segmenter to train: that of `start`, or one with random weights that depend on the seed alone.

    Raises:
        ValueError: random weights are not to be trained.
    """
    torch.set_num_threads(config.threads)
    model = MODELS[config.model]
    if config.start is not None:
        return model.from_pretrained(config.start)
    if not (config.nucleus_steps and config.cell_steps):
        raise ValueError(
            f"need steps for both networks, got {config.nucleus_steps} for nuclei and {config.cell_steps} for cells; "
            "give --start, the weights of a network that is not trained"
        )
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        return model()


def fit_segmenter(config: SegmenterFitConfig) -> None:
    """Train and validate both networks, then write the weights with a record of the training, and print the scores.

    Old weights stay until both networks are trained.
    """
    weights, seed = resolve_defaults(config)
    segmenter = initial_segmenter(config, seed)
    cells, validation_cells = SyntheticCells("train", seed=seed), SyntheticCells("validation", seed=seed)
    results: dict[str, dict[str, float]] = {}
    for task in build_tasks(segmenter, config):
        results[task.name] = {}
        if any(stage.steps for stage in task.stages):
            scenes = make_scenes(cells, task, config.scenes, rng_at(seed, task.stream, 0))
            results[task.name]["loss"] = train(task, scenes, config, rng_at(seed, task.stream, 1))
        held_out = make_scenes(validation_cells, task, config.validation, rng_at(seed, task.stream, 2))
        results[task.name] |= validate(task, held_out, rng_at(seed, task.stream, 3))
    settings = asdict(replace(config, seed=seed))
    del settings["weights"], settings["start"]
    segmenter.save_pretrained(weights, {"command": shell_command(), "config": settings, "results": results})
    show(results_table(results, str(weights)))


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
    steps = sum(stage.steps for stage in task.stages)
    short = replace(task, stages=(task.stages[-1]._replace(steps=ESTIMATED_STEPS),))
    scenes = make_scenes(cells, task, ESTIMATED_SCENES, rng)
    making = seconds_of(lambda: make_scenes(cells, task, ESTIMATED_SCENES, rng)) / ESTIMATED_SCENES
    step = seconds_of(lambda: train(short, scenes, config, rng)) / ESTIMATED_STEPS
    validation = seconds_of(lambda: validate(task, scenes, rng)) / ESTIMATED_SCENES
    made = (config.scenes if steps else 0) + config.validation
    return making * made + step * steps + validation * config.validation
