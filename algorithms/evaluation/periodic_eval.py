"""A short evaluation that is repeated along a run: fixed held-out contexts, the same noise. n contexts, F features."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from algorithms.evaluation.comparison import sampled_row
from algorithms.evaluation.distances import frechet_distance, standardise
from algorithms.evaluation.feature_distances import features_of
from algorithms.evaluation.held_out import held_out
from algorithms.evaluation.metrics import Evaluator, Row, compute_metrics
from algorithms.evaluation.statistics import nan_mean
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Each reward and judge on every context, n values (None: undefined), and the Frechet distance."""

    values: Mapping[str, list[float | None]]
    frechet: float

    def of(self, name: str) -> NDArray[np.float64]:
        """The values of a reward or judge, (n,), nan where undefined."""
        return np.asarray(self.values[name], np.float64)

    def means(self) -> dict[str, float]:
        """Means over contexts, and the distance."""
        return {name: float(nan_mean(self.of(name))) for name in self.values} | {"frechet": self.frechet}


@dataclass(frozen=True, kw_only=True)
class PeriodicEval:
    """Evaluates a generator on fixed contexts; equals `cellfluxrl evaluate` with one sample a context."""

    contexts: TensorDict  # [n]
    real: Tensor  # the treated cells behind the contexts, (n, C, H, W)
    features: Tensor  # of other real cells of the same compounds, by the held-out classifier, (n, F)
    evaluator: Evaluator

    @classmethod
    def create(cls, data: CellData, evaluator: Evaluator, *, contexts: int, seed: int = 0) -> Self:
        """On the contexts that `cellfluxrl evaluate` draws of a held-out split with the same number and seed.

        Raises:
            ValueError: the cells have no mechanisms of action, or too few pairs.
        """
        if (classify := evaluator.classify) is None:
            raise ValueError("need cells with mechanisms of action, whose held-out classifier gives the distance")
        drawn, rows, references = held_out(data, contexts, seed)
        networks = {"judge": lambda images: classify(images)[1]}
        features = features_of(lambda i: data.images(references[i]), contexts, networks, evaluator.device)["judge"]
        return cls(contexts=drawn, real=data.images(rows), features=features, evaluator=evaluator)

    def __call__(self, model: CellFlux) -> EvalResult:
        """The result of a generator, whose images the processes share; all of them must ask, and get it."""
        return self._compare(sampled_row(model, self.contexts, 1))[0]

    def sample(self, model: CellFlux) -> Tensor:
        """Images of a generator, (n, C, H, W), one in each context; the same noise for every generator."""
        return sampled_row(model, self.contexts, 1).all_images(len(self.contexts)).squeeze(1)

    def evaluate(self, images: Tensor) -> EvalResult:
        """The result of images (n, C, H, W), one in each context."""
        return self.evaluate_with_features(images)[0]

    def evaluate_with_features(self, images: Tensor) -> tuple[EvalResult, Tensor, Tensor]:
        """The result, and the standardised features of the images and of real ones, (n, F) each."""
        return self._compare(Row.of(images.unsqueeze(1)))

    def _compare(self, row: Row) -> tuple[EvalResult, Tensor, Tensor]:
        found = compute_metrics(row, self.contexts, self.evaluator, what="evaluate").squeeze(1)  # [n]
        own, real = (standardise(x, self.features) for x in (found["features", "judge"], self.features))
        values = {name: [_known(x) for x in value.tolist()] for name, value in found["interval"].items()}
        return EvalResult(values=values, frechet=frechet_distance(own, real)), own, real


def _known(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
