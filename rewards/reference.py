"""Reference statistics of real images: mean and standard deviation of each measure in each population.

N images, B batch, M populations: mechanisms of action (MoA), compounds, or all controls as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cellenv.json_io import dump_json, read_json
from cellenv.weights_io import write_atomically

EMBEDDED = Path(__file__).parent / "assets" / "reference.json"
COUNTS = ("nucleus_count", "cell_count")
MOST = 1e15  # of a mean, deviation or count in a file: beyond, it is damaged
Condition = Literal["moa", "compound", "controls"]
JSON_KEYS: dict[Condition, str] = {"moa": "moas", "compound": "compounds", "controls": "controls"}  # of the names
TITLES: dict[Condition, str] = {"moa": "MoA", "compound": "compound", "controls": "population"}
ID_KEYS: dict[Condition, list[str]] = {"moa": ["moa"], "compound": ["perturbation"], "controls": []}  # in a context


@dataclass(frozen=True, kw_only=True)
class MeasureStatistics:
    """Of one measure, for each population."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ReferenceFile:
    """What the JSON file of a `Reference` holds.

    Raises:
        ValueError: not one kind of populations, not one finite number >= 0 for each, or a deviation of 0 by which
            nothing can be divided.
    """

    about: dict[str, Any] = field(default_factory=dict)
    moas: tuple[str, ...] | None = None
    compounds: tuple[str, ...] | None = None
    controls: tuple[str, ...] | None = None
    count: tuple[int, ...]
    measures: dict[str, MeasureStatistics]

    @property
    def by(self) -> Condition:
        """What the populations are."""
        given: list[Condition] = [by for by, key in JSON_KEYS.items() if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"need one of {', '.join(JSON_KEYS.values())}; got {len(given)} of them")
        return given[0]

    @property
    def populations(self) -> tuple[str, ...]:
        """Their names."""
        names: tuple[str, ...] = getattr(self, JSON_KEYS[self.by])
        return names

    def __post_init__(self) -> None:
        numbers: dict[str, Sequence[float]] = {"count": self.count}
        for name, measure in self.measures.items():
            numbers |= {f"mean of {name}": measure.mean, f"std of {name}": measure.std}
            if name not in COUNTS and any(mean == std == 0 for mean, std in zip(measure.mean, measure.std)):
                raise ValueError(
                    f"{name} has the mean and the deviation 0 in a population: a z-score would divide by 0"
                )
        for name, values in numbers.items():
            if len(values) != len(self.populations) or not all(0 <= value < MOST for value in values):
                n, title = len(self.populations), TITLES[self.by]
                raise ValueError(f"need {n} numbers from 0 to {MOST:g} for {name}, one per {title}; got {values}"[:300])


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Statistics of real images, which a generated image is compared with.

    by: what chooses the population of an image: its MoA, its compound, or nothing, as there are the controls alone.
    populations: names; position is the id.
    count: (M,) int64, images of each population.
    mean, std: measure -> (M,) float32, in the unit of the measure, over the images where it is defined.
    about: how the numbers were made; any JSON.
    """

    by: Condition = "moa"
    populations: tuple[str, ...]
    count: Tensor
    mean: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    about: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        measures: Mapping[str, Tensor],
        population: Tensor,
        populations: Sequence[str],
        *,
        by: Condition = "moa",
        min_cells: int = 30,
        about: Mapping[str, Any] | None = None,
    ) -> Self:
        """Statistics of the measures of N images.

        Args:
            measures: name -> (N,), nan where undefined.
            population: (N,) ids.
            populations: their names.
            by: see the class.
            min_cells: number of defined values that every measure needs in every population.
            about: see the class.

        Raises:
            ValueError: there is no population, one has too few values, or min_cells is below 2.
        """
        if not populations:
            raise ValueError("need mechanisms of action: a column of the image table that names them (BBBC021: ANNOT)")
        if min_cells < 2:
            raise ValueError(f"a standard deviation needs two images: min_cells >= 2, got {min_cells}")
        members = [population == m for m in range(len(populations))]
        mean, std = {}, {}
        for name, value in measures.items():
            defined = [value[mask & ~value.isnan()].double() for mask in members]
            short = [f"{populations[m]} ({len(v)})" for m, v in enumerate(defined) if len(v) < min_cells]
            if short:
                raise ValueError(
                    f"{name}: need {min_cells} images of each {TITLES[by]} where it is defined; got fewer of"
                    f" {', '.join(short)}: add images, leave it out, lower --min-cells, or fit --by controls"
                )
            mean[name] = torch.stack([v.mean() for v in defined]).float()
            std[name] = torch.stack([v.std() for v in defined]).float()
        count = torch.stack([mask.sum() for mask in members])
        return cls(by=by, populations=tuple(populations), count=count, mean=mean, std=std, about=dict(about or {}))

    @property
    def id_keys(self) -> list[str]:
        """The key of a context that holds the id of its population; none where there is one population."""
        return ID_KEYS[self.by]

    def population_of(self, contexts: TensorDictBase) -> Tensor:
        """Id of the population of each context, (B,)."""
        return contexts[self.id_keys[0]] if self.id_keys else torch.zeros(len(contexts), dtype=torch.int64)

    def arrange(self, names: Sequence[str]) -> Self:
        """Statistics of these populations in this order: nan, by which nothing can be scored, for those unknown."""
        places = {name: m for m, name in enumerate(self.populations)}
        order = torch.tensor([places.get(name, len(places)) for name in names], dtype=torch.int64)
        mean, std = (
            {name: torch.cat([value, value.new_tensor([torch.nan])])[order] for name, value in values.items()}
            for values in (self.mean, self.std)
        )
        count = torch.cat([self.count, self.count.new_zeros(1)])[order]
        return replace(self, populations=tuple(names), count=count, mean=mean, std=std)

    def sigma(self, name: str) -> Tensor:
        """Standard deviation with a floor, (M,), by which `zscore` divides.

        sqrt(std^2 + 1/12) for counts, as 1/12 is the variance of rounding to an integer; for other measures
        at least 2 % of the mean, the error of a shape that is drawn on the pixel grid.
        """
        mean, std = self.mean[name], self.std[name]
        return (std**2 + 1 / 12).sqrt() if name in COUNTS else torch.maximum(std, 0.02 * mean.abs())

    def zscore(
        self, name: str, value: Tensor, population: Tensor | None = None, *, undefined: float | Tensor = torch.nan
    ) -> Tensor:
        """(value - mean) / sigma among real images of the population. value, population (B,) -> (B,).

        population: ids; None: there is one. One without statistics (see `arrange`) gives nan, whatever the value.
        undefined: z-score of a value that is nan, one for all images or (B,).

        Raises:
            ValueError: an unknown measure, or an id outside 0..M-1.
        """
        if population is None and len(self.populations) == 1:
            population = torch.zeros_like(value, dtype=torch.int64)
        if population is None:
            raise ValueError(f"need the id of the {TITLES[self.by]} of each image; got none")
        if name not in self.mean:
            raise ValueError(f"the reference has no measure {name!r}; it has {', '.join(self.mean)}")
        low, high = (int(population.min()), int(population.max())) if population.numel() else (0, 0)
        if not 0 <= low <= high < len(self.populations):
            raise ValueError(f"{TITLES[self.by]} ids must lie in 0..{len(self.populations) - 1}, got {low}..{high}")
        mean, sigma = self.mean[name].to(value)[population], self.sigma(name).to(value)[population]
        return torch.where(value.isnan() & ~mean.isnan(), undefined, (value - mean) / sigma)

    def save(self, path: str | Path) -> None:
        """Write JSON, atomically."""
        measures = {
            name: MeasureStatistics(mean=tuple(self.mean[name].tolist()), std=tuple(self.std[name].tolist()))
            for name in self.mean
        }
        names: dict[str, Any] = {JSON_KEYS[self.by]: self.populations}
        content = ReferenceFile(about=dict(self.about), count=tuple(self.count.tolist()), measures=measures, **names)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        given = {name: value for name, value in asdict(content).items() if value is not None}
        write_atomically(Path(path), dump_json(given))

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
            by=content.by,
            populations=content.populations,
            count=torch.tensor(content.count),
            mean={name: torch.tensor(measure.mean) for name, measure in content.measures.items()},
            std={name: torch.tensor(measure.std) for name, measure in content.measures.items()},
            about=content.about,
        )
