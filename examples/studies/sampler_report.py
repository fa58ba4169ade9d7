"""Tables and picture of a sampler sweep. n contexts, K bootstrap resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.periodic_eval import EvalResult
from algorithms.evaluation.report import number
from algorithms.evaluation.statistics import Interval, mean_interval
from algorithms.files import write_whole
from cellenv.generator import Sampling
from examples.studies.comparison_report import COLOURS, TextTable, format_interval
from examples.studies.results import write_csv

LOSSES = {"total_loss": "total lost, % of the gap", "frechet_loss": "Fréchet lost, %"}
PANELS = {"total": "total reward", "judge_moa": "MoA, held-out judge", "frechet": "Fréchet distance"}

Roles = Mapping[Sampling, str]  # "published", "chosen", ...: of samplers that have a part in the report


@dataclass(frozen=True, kw_only=True)
class SamplerScore:
    """Evaluation of a sampler, and its Frechet distance in every bootstrap resample, (K,)."""

    result: EvalResult
    frechets: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SamplerComparison:
    """A sampler against the published one: means, paired differences and losses, with 95 % intervals.

    total_loss is a share of |real - published|, frechet_loss of the published sampler's distance; both scales are as
    measured, and only the difference is resampled, by contexts. Images that are drawn twice bias a Frechet distance,
    so its resampled differences are shifted to have the measured difference as their mean.
    """

    sampling: Sampling
    means: Mapping[str, float]
    total: Interval
    judge_moa: Interval
    frechet: Interval
    total_loss: Interval
    frechet_loss: Interval

    @classmethod
    def create(
        cls,
        sampling: Sampling,
        own: SamplerScore,
        published: SamplerScore,
        real: EvalResult,
        counts: NDArray[np.float64],
    ) -> Self:
        """Compare two scores. counts: bootstrap resamples that both were scored on, (K, n)."""
        means, published_means = own.result.means(), published.result.means()
        total, judge_moa = (
            mean_interval(own.result.of(name) - published.result.of(name), counts) for name in ("total", "judge_moa")
        )
        difference = means["frechet"] - published_means["frechet"]
        resampled = own.frechets - published.frechets
        low, high = difference + np.quantile(resampled - resampled.mean(), [0.025, 0.975])
        frechet = Interval(difference, float(low), float(high))
        gap = abs(real.means()["total"] - published_means["total"])
        return cls(
            sampling=sampling,
            means=means,
            total=total,
            judge_moa=judge_moa,
            frechet=frechet,
            total_loss=scale_interval(total, -1 / gap),
            frechet_loss=scale_interval(frechet, 1 / published_means["frechet"]),
        )

    @property
    def worst_loss(self) -> float:
        """The greater of the two losses."""
        return max(self.total_loss.mean, self.frechet_loss.mean)


def scale_interval(interval: Interval, factor: float) -> Interval:
    """Interval of a multiple."""
    low, high = sorted((factor * interval.low, factor * interval.high))
    return Interval(factor * interval.mean, low, high)


def chosen_one(comparisons: Sequence[SamplerComparison], roles: Roles) -> SamplerComparison:
    """The comparison of the chosen sampler."""
    return next(c for c in comparisons if "chosen" in roles.get(c.sampling, ""))


def describe(sampling: Sampling, roles: Roles) -> str:
    """Sampler in words, with its role."""
    words = f"{sampling.solver} × {sampling.steps}, {sampling.grid}, guidance {sampling.guidance:g}"
    return f"{words} ({roles[sampling]})" if sampling in roles else words


def write_sampler_report(
    stages: Mapping[str, Sequence[SamplerComparison]],
    real: Mapping[str, EvalResult],
    roles: Roles,
    folder: Path,
) -> None:
    """Print the test table and the cost of the choice; write table.md, results.csv and picture.png.

    stages, real: by split, validation and test.
    """
    tables = {split: sampler_table(split, found, real[split], roles) for split, found in stages.items()}
    conclusion = describe_choice(stages["test"], roles)
    console = Console()
    console.print(tables["test"].transpose().terminal())
    console.print(conclusion, highlight=False)
    text = "\n".join([*(table.markdown() for table in tables.values()), conclusion])
    write_whole(folder / "table.md", f"{text}\n".encode())
    write_csv(folder / "results.csv", [csv_line(split, c, roles) for split, found in stages.items() for c in found])
    write_whole(folder / "picture.png", plot_sweep(stages["validation"], real["validation"], roles))


def sampler_table(split: str, comparisons: Sequence[SamplerComparison], real: EvalResult, roles: Roles) -> TextTable:
    """One row per sampler, and one of real cells."""
    head = ["sampler", "NFE", "total", "total − published", "MoA, judge", "MoA − published", "Fréchet"]
    head += ["Fréchet − published", *LOSSES.values()]
    rows = []
    for c in comparisons:
        row = [describe(c.sampling, roles), str(c.sampling.nfe), number(c.means["total"], decimals=2)]
        row += [format_interval(c.total, sign=True), number(c.means["judge_moa"], decimals=3)]
        row += [format_interval(c.judge_moa, sign=True, decimals=3), number(c.means["frechet"], decimals=3)]
        row += [format_interval(c.frechet, sign=True, decimals=3)]
        rows.append(row + [percent(getattr(c, name)) for name in LOSSES])
    means = real.means()
    total, judge, frechet = (
        number(means[name], decimals=d) for name, d in (("total", 2), ("judge_moa", 3), ("frechet", 3))
    )
    rows.append(["real", "", total, "", judge, "", frechet, "", "", ""])
    n = len(real.of("total"))
    title = f"On {n} contexts of the {split} split; in brackets 95 % intervals over contexts; a loss below 0 is a gain"
    return TextTable(title, head, rows)


def percent(interval: Interval) -> str:
    """A share with its bounds, in percent."""
    return format_interval(scale_interval(interval, 100), decimals=1)


def describe_choice(comparisons: Sequence[SamplerComparison], roles: Roles) -> str:
    """What the chosen sampler costs and loses, as a sentence. The published sampler comes first."""
    found, published = chosen_one(comparisons, roles), comparisons[0].sampling
    return (
        f"{describe(found.sampling, {})} needs {found.sampling.nfe} NFE an image in place of {published.nfe}. It loses"
        f" {percent(found.total_loss)} % of the gap |real − published| in total, and {percent(found.frechet_loss)} %"
        " in Fréchet distance."
    )


def csv_line(split: str, c: SamplerComparison, roles: Roles) -> dict[str, object]:
    """Line of results.csv; losses are shares."""
    sampling = c.sampling
    line: dict[str, object] = {"split": split, "solver": sampling.solver, "steps": sampling.steps}
    line |= {"grid": sampling.grid, "guidance": sampling.guidance, "nfe": sampling.nfe}
    line |= {"role": roles.get(sampling, "")}
    line |= {name: round(c.means[name], 5) for name in ("total", "judge_moa", "frechet")}
    differences = {"total_gain": c.total, "judge_moa_gain": c.judge_moa, "frechet_gain": c.frechet}
    for name, interval in (differences | {name: getattr(c, name) for name in LOSSES}).items():
        for bound, value in zip(("", "_low", "_high"), interval, strict=True):
            line[f"{name}{bound}"] = round(value, 5) + 0.0  # no minus before a zero
    return line


def plot_sweep(comparisons: Sequence[SamplerComparison], real: EvalResult, roles: Roles) -> bytes:
    """PNG: total, MoA judge and Frechet distance against NFE; the worst quarter of the samplers is cut off."""
    figure = Figure(figsize=(15, 4.8), dpi=150, layout="constrained")
    curves: dict[tuple[str, str, float], list[SamplerComparison]] = {}
    for c in sorted(comparisons, key=lambda c: c.sampling.nfe):
        curves.setdefault((c.sampling.solver, c.sampling.grid, c.sampling.guidance), []).append(c)
    curves = dict(sorted(curves.items()))
    looks = line_looks(list(curves))
    ticks = sorted({c.sampling.nfe for c in comparisons})
    for axes, (name, title) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for key, points in curves.items():
            solver, grid, guidance = key
            x = [c.sampling.nfe for c in points]
            y = [c.means[name] for c in points]
            axes.plot(x, y, markersize=4, label=f"{solver}, {grid}, guidance {guidance:g}", **looks[key])
        best = chosen_one(comparisons, roles)
        axes.plot(best.sampling.nfe, best.means[name], "ko", fillstyle="none", markersize=12, label="chosen")
        axes.axhline(comparisons[0].means[name], color="black", linewidth=0.8, label="published")
        axes.axhline(real.means()[name], color="black", linestyle=":", linewidth=1, label="real cells")
        cut_off_worst(axes, [c.means[name] for c in comparisons], less_is_better=name == "frechet")
        axes.set(xscale="log", xlabel="network evaluations an image", title=title)
        axes.set_xticks(ticks, labels=map(str, ticks))
        axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return encode_png(figure, figure.axes)


def line_looks(keys: Sequence[tuple[str, str, float]]) -> dict[tuple[str, str, float], dict[str, Any]]:
    """Colour by solver, marker by grid and line style by guidance."""
    colours, markers, styles = (
        dict(zip(dict.fromkeys(key[i] for key in keys), cycle(looks), strict=False))
        for i, looks in enumerate((COLOURS, "osD^", ("-", "--", ":", "-.")))
    )
    return {
        (solver, grid, guidance): {
            "color": colours[solver],
            "marker": markers[grid],
            "linestyle": styles[guidance],
        }
        for solver, grid, guidance in keys
    }


def cut_off_worst(axes: Axes, values: Sequence[float], *, less_is_better: bool) -> None:
    """End the y axis at the worst quarter of the values."""
    if less_is_better:
        axes.set_ylim(top=np.quantile(values, 0.75))
    else:
        axes.set_ylim(bottom=np.quantile(values, 0.25))
