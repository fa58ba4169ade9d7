"""A generator and an evaluator of brightness, and an evaluation made by hand."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.evaluation.evaluated_cells import (
    CellPicture,
    EvaluatedCells,
    ShownContext,
    choose_contexts,
    gain,
    rounded,
    webp,
)
from algorithms.evaluation.measurement import Evaluator
from algorithms.evaluation.metrics import describe
from algorithms.evaluation.pages.outlines import area_path, outline_path
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNetConfig
from rewards import SUITE, Reference, custom_reward


class Brighten(nn.Module):
    """v = gain (1 + mean of the condition)."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x_t, t, condition):
        return self.gain * (1 + condition.mean(1)).reshape(-1, 1, 1, 1).expand_as(x_t)


def generator(data: CellData, gain: float) -> CellFlux:
    """One step of noise 0.1, then `Brighten`."""
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Brighten(gain), config, Sampling(steps=1, solver="euler", noise_level=0.1))


class BrightnessEvaluator:
    """`evaluator`, and what it was given.

    Rewards: "bright", which is the total too, and "dark", its negative times 1 + the id of the MoA. The judge of
    "bright" looks at the first channel; the classifier answers the last MoA, and its features are the means of the
    channels; the measure of "dark" is the standard deviation of the pixels.
    """

    def __init__(self, moas: int):
        self.scored, self.judged, self.measured = [], [], []
        self.evaluator = Evaluator(
            specs=[
                replace(custom_reward(lambda images: images, name="bright"), has_judge=True),
                replace(custom_reward(lambda images: images, name="dark"), measure="deviation"),
            ],
            score=self.score,
            judge_scores=self.judge_scores,
            classify=lambda images: ((torch.arange(moas) / 1e3).expand(len(images), -1), images.mean((2, 3))),
            measure=self.measure,
            sigma={"dark": torch.ones(moas)},
        )

    def score(self, images, contexts) -> dict[str, Tensor]:
        self.scored.append((images, contexts))
        bright = images.mean((1, 2, 3))
        return {"total": bright[:, None], "bright": bright[:, None], "dark": -bright * (1 + contexts["moa"])}

    def judge_scores(self, images, contexts) -> dict[str, Tensor]:
        self.judged.append(images)
        return {"bright": images[:, 0].mean((1, 2))}

    def measure(self, images) -> dict[str, Tensor]:
        self.measured.append(images)
        return {"dark": images.std((1, 2, 3))}


def interval(mean: float, low: float, high: float) -> dict:
    return {"mean": mean, "ci": [low, high]}


REWARDS = [spec.name for spec in SUITE]
JUDGES = [f"judge_{spec.name}" for spec in SUITE if spec.has_judge]


def row(total: float, **numbers) -> dict:
    """Figures of a row whose rewards are all `total`."""
    figures = {name: interval(total, total - 0.1, total + 0.1) for name in ("total", *REWARDS)}
    figures |= {name: interval(0.5, 0.4, 0.6) for name in JUDGES}
    bare = {"frechet": 4.0, "kernel": 0.02, "diversity": 1.0, "moa_accuracy": 0.6, "w1_mean": 0.5, "n_contexts": 32}
    return figures | bare | numbers


def evaluation() -> dict:
    """What `evaluate` returns for base, rl and real, of a run that passes every check."""
    gain = {name: interval(0.2, 0.1, 0.3) for name in ("total", *REWARDS, *JUDGES)}
    gain |= {name.replace("judge_", "judge_margin_"): interval(0.08, 0.0, 0.15) for name in JUDGES}
    shares = {name: interval(0.7, 0.6, 0.8) for name in (*REWARDS, *JUDGES)}
    numbers = {"frechet": -0.5, "kernel": 0.001, "diversity": -0.1, "moa_accuracy": 0.1, "w1_mean": -0.1}
    return {
        "rows": {"base": row(1.0), "rl": row(1.2, frechet=3.5, diversity=0.9), "real": row(1.3, diversity=None)},
        "paired": {name: gain | numbers | {"n_contexts": 32} for name in ("rl-base", "real-base")},
        "gap": {"rl-base": {"share": interval(0.65, 0.5, 0.75), "own": shares}},
        "rewards": [describe(spec) for spec in SUITE],
        "baselines": {},
        "weights": {"base": "0a", "rl": "1b"},
        "config": {"preset": "default", "seed": 0},
    }


CLASSES = ("Actin disruptors", "DNA damage", "Eg5 inhibitors")


def cells(rows: tuple[str, ...] = ("base", "rl", "real"), n: int = 24, seed: int = 0) -> EvaluatedCells:
    """Random values of n contexts of three classes, and pictures of 8 x 8 of those that a page would show."""
    rng, classes = np.random.default_rng(seed), [CLASSES[i % 3] for i in range(n)]
    samples = {row: 1 if row == "real" else 2 for row in rows}
    names = ["total", *REWARDS, *JUDGES]
    values = {row: {name: rng.normal(i, 1, (n, samples[row])) for name in names} for i, row in enumerate(rows)}
    measures = {row: {name: rng.normal(i, 1, (n, samples[row])) for name in REWARDS[2:]} for i, row in enumerate(rows)}
    trained = [row for row in rows if row not in ("base", "real")]
    totals = {row: value["total"] for row, value in values.items()}
    chosen = choose_contexts(gain(totals, trained[0] if trained else None), classes, CLASSES, columns=4, seed=0)
    labels = np.zeros((8, 8), int)
    labels[2:6, 2:6] = 1

    def picture(i: int, column: int) -> CellPicture:
        image = np.full((8, 8, 3), 10 * i + 5 * column, np.uint8)
        outline = outline_path(labels)
        return CellPicture(image=webp(image), nuclei=outline, cells=outline, outside=area_path(labels > 0))

    return EvaluatedCells(
        size=(8, 8),
        classes=tuple(classes),
        compounds=tuple(f"compound-{i % 6}" for i in range(n)),
        seeds=tuple(range(n)),
        values={row: {name: rounded(x) for name, x in value.items()} for row, value in values.items()},
        measures={row: {name: rounded(x) for name, x in value.items()} for row, value in measures.items()},
        shown=tuple(
            ShownContext(
                context=i,
                groups=tuple(groups),
                pictures={column: picture(i, c) for c, column in enumerate(("control", *rows))},
            )
            for i, groups in chosen.items()
        ),
    )


def log(start: float = 0.0) -> list[dict[str, float]]:
    """Twelve iterations of a training whose reward rises."""
    return [{"iteration": i, "reward": start + i, "kl": 0.1, "rewards/moa/mean": 0.1 * i} for i in range(12)]


def best_of_n() -> dict:
    """What best_of_n.json holds, for base and rl at N = 1, 2, 4."""
    figures = [{name: interval(n, n - 0.1, n + 0.1) for name in ("total", *JUDGES)} for n in (1.0, 2.0, 3.0)]
    about = evaluation() | {"config": {"scorer": "total", "unseen": False}}
    curve = {"n": [1, 2, 4], "rows": {"base": figures, "rl": figures}, "paired": {"rl-base": figures}}
    return {"curve": curve, "best_of": {"1": about}, "weights": {"base": "0a", "rl": "1b"}}


def reference_by_compound(data: CellData) -> Reference:
    """The shipped reference with a population for each compound of the data: that of its MoA."""
    shipped, rows = Reference.load(), data.compound_moa
    mean, std = ({name: value[rows] for name, value in table.items()} for table in (shipped.mean, shipped.std))
    names, count = tuple(data.compounds), shipped.count[rows]
    return replace(shipped, by="compound", populations=names, count=count, mean=mean, std=std)
