"""What tests of comparisons share: a generator and rulers of brightness, and results made by hand."""

from collections.abc import Sequence

import torch
from torch import nn

from algorithms.evaluation import Rulers
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNetConfig


class Brighten(nn.Module):
    """v = gain."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x_t, t, condition):
        return self.gain.expand_as(x_t)


def generator(data: CellData, gain: float) -> CellFlux:
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Brighten(gain), config, Sampling(steps=1, solver="euler", noise_level=0.3))


def rulers(moas: int) -> Rulers:
    """Total and moa are brightness, the others its square; the judge sees the first channel."""

    def score(images, contexts):
        bright = images.mean((1, 2, 3))
        others = ("containment", "roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count")
        return {"total": bright[:, None], "moa": bright} | dict.fromkeys(others, bright.square())

    probabilities = torch.arange(moas) / torch.arange(moas).sum()
    return Rulers(
        score=score,
        judge=lambda images: (probabilities.expand(len(images), -1), images.mean((2, 3))),
        judge_containment=lambda images: images[:, 0].mean((1, 2)),
        measure=lambda images: {"size": images.std((1, 2, 3))},
        sigma={"size": torch.ones(moas)},
    )


def results(totals: dict[str, Sequence[Sequence[float]]], *, base: float = -4.0, contexts: int = 6):
    """For each candidate the totals of its seeds at points 1, 2, ...; 100 passes and 10 iterations a point.

    Contexts differ by -1 to 1 around the total; the other rewards do not move; Frechet is 10 + total.
    """
    from results import Marks, Point, Results, Run
    from standings import FIGURES

    spread = torch.linspace(-1, 1, contexts).tolist()

    def marks(total: float) -> Marks:
        still = {figure: [0.5] * contexts for figure in FIGURES}
        return Marks(values=still | {"total": [total + s for s in spread]}, frechet=10 + total)

    def run(name: str, seed: int, line: Sequence[float]) -> Run:
        line = [base, *line]
        points = [
            Point(iteration=10 * i, passes=100 * i, seconds=1.0 * i, marks=marks(at)) for i, at in enumerate(line)
        ]
        return Run(name=name, seed=seed, points=points)

    runs = [run(name, seed, line) for name, seeds in totals.items() for seed, line in enumerate(seeds)]
    return Results(runs=runs, base=marks(base), real=marks(2.0))
