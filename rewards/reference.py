"""Reference statistics of real images: mean and standard deviation of each measure.

N images, B batch, M mechanisms of action (MoA), each with statistics of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cellenv.json_io import dump_json, read_json
from cellenv.weights_io import write_atomically

EMBEDDED = Path(__file__).parent / "assets" / "reference.json"
COUNTS = ("nucleus_count", "cell_count")


@dataclass(frozen=True, kw_only=True)
class MeasureStatistics:
    """Of one measure, for each MoA."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ReferenceFile:
    """What the JSON file of a `Reference` holds.

    Raises:
        ValueError: not one finite number >= 0 for each MoA, or a deviation of 0 by which nothing can be divided.
    """

    about: dict[str, Any] = field(default_factory=dict)
    moas: tuple[str, ...]
    count: tuple[int, ...]
    measures: dict[str, MeasureStatistics]

    def __post_init__(self) -> None:
        numbers: dict[str, Sequence[float]] = {"count": self.count}
        for name, measure in self.measures.items():
            numbers |= {f"mean of {name}": measure.mean, f"std of {name}": measure.std}
            if name not in COUNTS and any(mean == std == 0 for mean, std in zip(measure.mean, measure.std)):
                raise ValueError(f"{name} has the mean and the deviation 0 for a MoA: a z-score would divide by 0")
        for name, values in numbers.items():
            if len(values) != len(self.moas) or not all(0 <= value < math.inf for value in values):
                raise ValueError(f"need {len(self.moas)} numbers >= 0 for {name}, one per MoA; got {values}"[:300])


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Statistics of real treated images.

    moas: names; position is the id.
    count: (M,) int64, images of each MoA.
    mean, std: measure -> (M,) float32, in the unit of the measure, over the images where it is defined.
    about: how the numbers were made; any JSON.
    """

    moas: tuple[str, ...]
    count: Tensor
    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    about: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        measures: Mapping[str, Tensor],
        moa: Tensor,
        moas: Sequence[str],
        *,
        min_cells: int = 30,
        about: Mapping[str, Any] | None = None,
    ) -> Self:
        """Statistics of the measures of N images.

        Args:
            measures: name -> (N,), nan where undefined.
            moa: (N,) ids.
            moas: names of the MoAs.
            min_cells: number of defined values that every measure needs for every MoA.
            about: see the class.

        Raises:
            ValueError: there are no MoAs, one has too few values, or min_cells is below 2.
        """
        if not moas:
            raise ValueError("need mechanisms of action: a column of the image table that names them (BBBC021: ANNOT)")
        if min_cells < 2:
            raise ValueError(f"a standard deviation needs two images: min_cells >= 2, got {min_cells}")
        of_moa = [moa == m for m in range(len(moas))]
        mean, std = {}, {}
        for name, value in measures.items():
            defined = [value[mask & ~value.isnan()].double() for mask in of_moa]
            short = [f"{moas[m]} ({len(v)})" for m, v in enumerate(defined) if len(v) < min_cells]
            if short:
                raise ValueError(
                    f"{name}: need {min_cells} images of each MoA where it is defined; got fewer of {', '.join(short)}:"
                    " add images, leave the MoA out, or lower min_cells"
                )
            mean[name] = torch.stack([v.mean() for v in defined]).float()
            std[name] = torch.stack([v.std() for v in defined]).float()
        count = torch.stack([mask.sum() for mask in of_moa])
        return cls(moas=tuple(moas), count=count, mean=mean, std=std, about=dict(about or {}))

    def sigma(self, name: str) -> Tensor:
        """Standard deviation with a floor, (M,), by which `zscore` divides.

        sqrt(std^2 + 1/12) for counts, as 1/12 is the variance of rounding to an integer; for other measures
        at least 2 % of the mean, the error of a shape that is drawn on the pixel grid.
        """
        mean, std = self.mean[name], self.std[name]
        return (std**2 + 1 / 12).sqrt() if name in COUNTS else torch.maximum(std, 0.02 * mean.abs())

    def zscore(self, name: str, value: Tensor, moa: Tensor) -> Tensor:
        """(value - mean) / sigma among real images of the MoA; nan stays nan. value, moa (B,) -> (B,).

        Raises:
            ValueError: an unknown measure, or an id outside 0..M-1.
        """
        if name not in self.mean:
            raise ValueError(f"the reference has no measure {name!r}; it has {', '.join(self.mean)}")
        if moa.numel() and not 0 <= int(moa.min()) <= int(moa.max()) < len(self.moas):
            raise ValueError(f"MoA ids must lie in 0..{len(self.moas) - 1}, got {int(moa.min())}..{int(moa.max())}")
        return (value - self.mean[name].to(value)[moa]) / self.sigma(name).to(value)[moa]

    def save(self, path: str | Path) -> None:
        """Write JSON, atomically."""
        content = ReferenceFile(
            about=dict(self.about),
            moas=self.moas,
            count=tuple(self.count.tolist()),
            measures={
                name: MeasureStatistics(mean=tuple(self.mean[name].tolist()), std=tuple(self.std[name].tolist()))
                for name in self.mean
            },
        )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), dump_json(content))

    @classmethod
    def load(cls, path: str | Path = EMBEDDED) -> Self:
        """Read what `save` wrote; by default, the statistics of the embedded world.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, see `ReferenceFile`.
        """
        try:
            content = read_json(Path(path), ReferenceFile)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no reference statistics at {path}; `cellfluxrl fit reference` writes them"
            ) from error
        return cls(
            moas=content.moas,
            count=torch.tensor(content.count),
            mean={name: torch.tensor(measure.mean) for name, measure in content.measures.items()},
            std={name: torch.tensor(measure.std) for name, measure in content.measures.items()},
            about=content.about,
        )
