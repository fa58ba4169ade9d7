"""How good the base has become: loss and distance to real cells on a held-out split, and pictures. n pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from base_config import Config
from charts import finish
from likeness import Likeness, Network
from matplotlib.figure import Figure
from pairs import VALIDATION, Pairs, draw_pairs, flow_matching_loss

from algorithms.files import save_png
from algorithms.inception import inception_features
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at
from rewards import JudgeClassifier


class Validation:
    """The same pairs, contexts and noise every time, from streams of their own."""

    def __init__(self, config: Config, data: CellData, device: torch.device):
        self.config, self.data, self.device = config, data, device
        networks = feature_networks(config, device)
        options = {"contexts": config.validation, "seed": config.seed, "device": device}
        self.likeness = Likeness.of(data, networks, **options) if networks else None
        self.floor = self.likeness.floor if self.likeness else {}  # the distances of real cells

    def figures(self, generator: CellFlux) -> dict[str, float]:
        """`validation_loss`, and the distances to real cells."""
        return {"validation_loss": self.loss(generator)} | (self.likeness(generator) if self.likeness else {})

    @torch.no_grad()
    def loss(self, generator: CellFlux) -> float:
        """Mean loss on n pairs as they are: every condition kept, nothing mirrored, bytes as bytes."""
        config = self.config
        plain = replace(config, condition_dropout=0.0, flip=0.0, dequantise=False)
        pairs = draw_pairs(self.data, config.validation, rng_at(config.seed, VALIDATION), plain, slice(None))
        chunks = zip(*(value.split(config.batch_size) for value in pairs), strict=True)
        network, w = generator.network, config.guidance
        losses = [flow_matching_loss(network, Pairs(*chunk).to(self.device), w) for chunk in chunks]
        return round(torch.cat(losses).mean().item(), 6)

    def draw(self, generator: CellFlux, file: Path) -> None:
        """Controls, what the generator makes of them, real images of the same compounds; twice twelve of each."""
        data, rng = self.data, rng_at(self.config.seed, VALIDATION, 1)
        treated = data.draw_treated(24, rng)
        contexts = data.contexts(treated, rng).to(self.device)
        x1, _ = generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
        bands = [composite(x.cpu(), data.channels) for x in (contexts["x0"], x1, data.images(treated))]
        rows = [band[half] for half in (slice(12), slice(12, 24)) for band in bands]
        save_png(grid(rows, ["control", "generated", "real"] * 2), file)


def feature_networks(config: Config, device: torch.device) -> dict[str, Network]:
    """In whose features distances are taken: a held-out judge of these data, if there is one; Inception, if given."""
    networks = {}
    if config.judge is not None or config.data is None:
        networks["judge"] = JudgeClassifier.from_pretrained(config.judge).to(device).features
    if config.inception is not None:
        networks["inception"] = inception_features(config.inception, device)
    return networks


def curves(history: Sequence[Mapping[str, float]], floor: Mapping[str, float]) -> bytes:
    """PNG: what each validation found, against steps; dotted, what real cells are told."""
    names = [name for name in history[-1] if name != "step"]
    figure = Figure(figsize=(4 * len(names), 3.4), dpi=150, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        steps, values = zip(*((point["step"], point.get(name, math.nan)) for point in history), strict=True)
        axes.plot(steps, values, "o-", color="#3d5a9e", markersize=3)
        if name in floor:
            axes.axhline(floor[name], color="black", linestyle=":", linewidth=1, label="real cells")
            axes.legend(frameon=False)
        axes.set(xlabel="steps", title=name.replace("_", " "))
    return finish(figure, figure.axes)
