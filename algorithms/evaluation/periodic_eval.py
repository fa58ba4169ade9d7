"""A short evaluation that is repeated along a run: fixed held-out contexts, the same noise.

n contexts, G samples of each, F features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from algorithms.evaluation.comparison import sampled_row
from algorithms.evaluation.distances import diversity, standardise
from algorithms.evaluation.feature_distances import features_of
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.measurement import Evaluator, Row, measure_row
from algorithms.evaluation.metrics import distances
from algorithms.evaluation.statistics import json_number, nan_mean
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Each reward and judge on every context, n values (None: undefined), and the figures of all images together.

    figures: frechet and kernel distance in the judge's features, and with several samples a context their diversity.
    """

    values: Mapping[str, list[float | None]]
    figures: Mapping[str, float | None]

    def figure(self, name: str) -> float:
        """A figure of all images together, nan where undefined or not asked for."""
        value = self.figures.get(name)
        return math.nan if value is None else value

    def of(self, name: str) -> NDArray[np.float64]:
        """The values of a reward or judge, (n,), nan where undefined."""
        return np.asarray(self.values[name], np.float64)

    def means(self) -> dict[str, float]:
        """Means over contexts, and the figures."""
        return {name: float(nan_mean(self.of(name))) for name in self.values} | {
            name: self.figure(name) for name in self.figures
        }


@dataclass(frozen=True, kw_only=True)
class PeriodicEval:
    """Evaluates a generator on fixed contexts; equals `cellfluxrl evaluate` with as many samples a context."""

    contexts: TensorDict  # [n]
    real: Tensor  # the treated cells behind the contexts, (n, C, H, W)
    features: Tensor  # of other real cells of the same compounds, by the held-out classifier, (n, F)
    evaluator: Evaluator
    group_size: int = 1  # G

    @classmethod
    def create(cls, data: CellData, evaluator: Evaluator, *, contexts: int, group_size: int = 1, seed: int = 0) -> Self:
        """On the contexts that `cellfluxrl evaluate` draws of a held-out split with the same number and seed.

        Raises:
            ValueError: the cells have no mechanisms of action, or too few pairs.
        """
        if (classify := evaluator.classify) is None:
            raise ValueError("need cells with mechanisms of action, whose held-out classifier gives the distance")
        drawn, rows, references = held_out(data, contexts, seed)
        networks = {"judge": lambda images: classify(images)[1]}
        features = features_of(lambda i: data.images(references[i]), contexts, networks, evaluator.device)["judge"]
        real = data.images(rows)
        return cls(contexts=drawn, real=real, features=features, evaluator=evaluator, group_size=group_size)

    def __call__(self, model: CellFlux) -> EvalResult:
        """The result of a generator, whose images the processes share; all of them must ask, and get it."""
        return self._compare(sampled_row(model, self.contexts, self.group_size))[0]

    def sample(self, model: CellFlux) -> Tensor:
        """Images of a generator, (n, C, H, W), one in each context; the same noise for every generator."""
        return sampled_row(model, self.contexts, 1).all_images(len(self.contexts)).squeeze(1)

    def evaluate(self, images: Tensor) -> EvalResult:
        """The result of images (n, C, H, W), one in each context."""
        return self.evaluate_with_features(images)[0]

    def evaluate_with_features(self, images: Tensor) -> tuple[EvalResult, Tensor, Tensor]:
        """The result, and the standardised features of the images and of real ones, (n, F) each."""
        result, own, real = self._compare(Row.of(images.unsqueeze(1)))
        return result, own.squeeze(1), real

    def _compare(self, row: Row) -> tuple[EvalResult, Tensor, Tensor]:
        found = measure_row(row, self.contexts, self.evaluator, what="evaluate")  # [n, G]
        own, real = (standardise(x, self.features) for x in (found["features", "judge"], self.features))
        values = {name: nan_mean(value.numpy(), axis=1) for name, value in found["interval"].items()}  # (n,) each
        figures = distances("judge", own, real) | ({"diversity": diversity(own)} if row.group_size > 1 else {})
        known = {name: [_known(x) for x in value.tolist()] for name, value in values.items()}
        return EvalResult(values=known, figures={name: json_number(x) for name, x in figures.items()}), own, real


def _known(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
