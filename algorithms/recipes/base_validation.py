"""Validation of the base during training: loss, distances to real cells, and pictures on a held-out split. n pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.feature_distances import FeatureDistances, FeatureNetwork
from algorithms.evaluation.inception import inception_features
from algorithms.files import save_png
from algorithms.processes import map_batches
from algorithms.recipes.base import BaseConfig
from algorithms.recipes.flow_matching_data import VALIDATION, Pairs, draw_pairs, flow_matching_loss
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at
from rewards import JudgeClassifier

SAMPLES, SAMPLE_ROW = 24, 12  # images in a picture, and in a row of it


class Validation:
    """Evaluates a generator on the same pairs, contexts and noise every time; training streams are not touched.

    The processes share the images: all of them must ask for metrics, and get them.
    """

    def __init__(self, config: BaseConfig, data: CellData, device: torch.device):
        self.config, self.data, self.device = config, data, device
        networks = feature_networks(config, device)
        self.distances: FeatureDistances | None = None
        if networks:
            self.distances = FeatureDistances.create(
                data, networks, contexts=config.validation.pairs, seed=config.seed, device=device
            )

    @property
    def floor(self) -> Mapping[str, float]:
        """Distances of real cells to other real cells."""
        return self.distances.floor if self.distances else {}

    def metrics(self, generator: CellFlux) -> dict[str, float]:
        """`validation_loss`, and the distances to real cells."""
        return {"validation_loss": self.loss(generator)} | (self.distances(generator) if self.distances else {})

    def loss(self, generator: CellFlux) -> float:
        """Mean loss on n pairs without condition dropout, mirroring or dequantisation."""
        config = self.config
        plain = replace(config.pairs, condition_dropout=0.0, flip=0.0, dequantise=False)
        rng = rng_at(config.seed, VALIDATION)
        pairs = draw_pairs(self.data, config.validation.pairs, rng, plain, slice(None))

        @torch.no_grad()
        def losses(index: Tensor) -> Tensor:
            chunk = Pairs(*(value[index] for value in pairs)).to(self.device)
            return flow_matching_loss(generator.network, chunk, plain).cpu()

        chunks = torch.arange(config.validation.pairs).split(config.batch_size)
        return round(torch.cat(map_batches(losses, chunks, "validate")).mean().item(), 6)

    def draw(self, generator: CellFlux, file: Path) -> None:
        """Write a picture of controls, of the images generated from them, and of real images of their compounds."""
        data, rng = self.data, rng_at(self.config.seed, VALIDATION, 1)
        treated = data.draw_treated(SAMPLES, rng)
        contexts = data.contexts(treated, rng).to(self.device)
        x1, _ = generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
        bands = [composite(x.cpu(), data.channels) for x in (contexts["x0"], x1, data.images(treated))]
        parts = [slice(i, i + SAMPLE_ROW) for i in range(0, SAMPLES, SAMPLE_ROW)]
        rows = [band[part] for part in parts for band in bands]
        save_png(grid(rows, ["control", "generated", "real"] * len(parts)), file)


def feature_networks(config: BaseConfig, device: torch.device) -> dict[str, FeatureNetwork]:
    """Feature networks for the distances: the held-out judge of these data, if any, and Inception, if given."""
    networks: dict[str, FeatureNetwork] = {}
    if config.validation.judge is not None or config.data.path is None:
        networks["judge"] = JudgeClassifier.from_pretrained(config.validation.judge).to(device).features
    if config.validation.inception is not None:
        networks["inception"] = inception_features(config.validation.inception, device)
    return networks


def plot_curves(history: Sequence[Mapping[str, float]], floor: Mapping[str, float]) -> bytes:
    """PNG of every validation metric against steps; a dotted line shows the value of real cells."""
    names = [name for name in history[-1] if name != "step"]
    figure = Figure(figsize=(4 * len(names), 3.4), dpi=150, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        steps, values = zip(*((point["step"], point.get(name, math.nan)) for point in history), strict=True)
        axes.plot(steps, values, "o-", color="#3d5a9e", markersize=3)
        if name in floor:
            axes.axhline(floor[name], color="black", linestyle=":", linewidth=1, label="real cells")
            axes.legend(frameon=False)
        axes.set(xlabel="steps", title=name.replace("_", " "))
    return encode_png(figure, figure.axes)
