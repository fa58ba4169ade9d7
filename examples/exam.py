"""A short evaluation to be repeated along a run: fixed held-out contexts, the same noise, few figures. n contexts."""

import math
from dataclasses import dataclass
from typing import Self

from evaluate import sample_groups
from likeness import features_of
from results import Marks
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.distances import frechet_distance, standardise
from algorithms.evaluation import Rulers, assess, held_out
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Call it with a generator, or with one image a context; what it says is what `evaluate.py` says of one draw."""

    scene: TensorDict  # the contexts, [n]
    real: Tensor  # the treated cells behind them, (n, C, H, W)
    features: Tensor  # of other real cells of the same compounds, by the judge, (n, F)
    rulers: Rulers

    @classmethod
    def of(cls, data: CellData, rulers: Rulers, *, contexts: int, seed: int = 0) -> Self:
        """On the contexts that `evaluate.py` draws of a held-out split with the same number and seed."""
        scene, rows, twins = held_out(data, contexts, seed)
        features = features_of(data.images(twins), lambda images: rulers.judge(images)[1], rulers.device)
        return cls(scene=scene, real=data.images(rows), features=features, rulers=rulers)

    def __call__(self, model: CellFlux) -> Marks:
        return self.mark(self.draw(model))

    def draw(self, model: CellFlux) -> Tensor:
        """Images of a generator, (n, C, H, W), one in each context; the same noise for every generator."""
        with tqdm(total=len(self.scene), desc="examine", unit="image", leave=False) as bar:
            return sample_groups(model, self.scene, 1, 64, bar).squeeze(1)

    def mark(self, images: Tensor) -> Marks:
        """Of images (n, C, H, W), one in each context."""
        return self.look(images)[0]

    def look(self, images: Tensor) -> tuple[Marks, Tensor, Tensor]:
        """Marks, and between which standardised features, (n, F) each, the distance lies: theirs and real ones."""
        found = assess(images.unsqueeze(1), self.scene, self.rulers).squeeze(1)  # [n]
        own, real = (standardise(x, self.features) for x in (found["features", "judge"], self.features))
        values = {name: [_known(x) for x in value.tolist()] for name, value in found["interval"].items()}
        return Marks(values=values, frechet=frechet_distance(own, real)), own, real


def _known(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
