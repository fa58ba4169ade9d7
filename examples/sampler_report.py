"""Tables and picture of a sampler sweep. n contexts, K resamples of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Self

import numpy as np
from charts import finish
from matplotlib.figure import Figure
from results import Marks, write_csv
from rich.console import Console
from standings import COLOURS, Table, spelled

from algorithms.files import write_whole
from algorithms.report import number
from algorithms.statistics import Interval, mean_interval
from cellenv.generator import Sampling

PERCENT = {"total_lost": "total lost, % of the gap", "frechet_lost": "Fréchet lost, %"}
Roles = Mapping[Sampling, str]  # samplers that are more than one of many


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a sampler reached, and its Frechet distance in every resample of the contexts, (K,)."""

    marks: Marks
    frechets: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A sampler against the published one: means, paired differences, and what it loses; intervals are 95 %.

    total_lost is a share of |real - published|, frechet_lost of the published sampler's distance, both as measured; the
    difference is what is resampled, by contexts, each with its images and its twin. Images that are drawn twice bias a
    Frechet distance, so the resampled differences are moved to where their mean is the difference.
    """

    sampling: Sampling
    means: Mapping[str, float]
    total: Interval
    judge_moa: Interval
    frechet: Interval
    total_lost: Interval
    frechet_lost: Interval

    @classmethod
    def of(cls, sampling: Sampling, own: Score, published: Score, real: Marks, draws: np.ndarray) -> Self:
        """draws: those of the scores, (K, n)."""
        means, before = own.marks.figures(), published.marks.figures()
        total, judge_moa = (
            mean_interval(own.marks.of(name) - published.marks.of(name), draws) for name in ("total", "judge_moa")
        )
        difference, moved = means["frechet"] - before["frechet"], own.frechets - published.frechets
        low, high = difference + np.quantile(moved - moved.mean(), [0.025, 0.975])
        frechet = Interval(difference, float(low), float(high))
        return cls(
            sampling=sampling,
            means=means,
            total=total,
            judge_moa=judge_moa,
            frechet=frechet,
            total_lost=scaled(total, -1 / abs(real.figures()["total"] - before["total"])),
            frechet_lost=scaled(frechet, 1 / before["frechet"]),
        )

    @property
    def worst(self) -> float:
        """The greater of the two losses."""
        return max(self.total_lost.mean, self.frechet_lost.mean)


def scaled(i: Interval, factor: float) -> Interval:
    """The interval of a multiple."""
    low, high = sorted((factor * i.low, factor * i.high))
    return Interval(factor * i.mean, low, high)


def chosen(standings: Sequence[Standing], roles: Roles) -> Standing:
    """The one that was chosen."""
    return next(s for s in standings if "chosen" in roles.get(s.sampling, ""))


def label(sampling: Sampling, roles: Roles) -> str:
    """A sampler in words."""
    words = f"{sampling.solver} × {sampling.steps}, {sampling.grid}, guidance {sampling.guidance:g}"
    return f"{words} ({roles[sampling]})" if sampling in roles else words


def publish(stages: Mapping[str, Sequence[Standing]], real: Mapping[str, Marks], roles: Roles, folder: Path) -> None:
    """Print the table of the last stage and what the choice costs; write table.md, results.csv and picture.png."""
    tables = [table(split, standings, real[split], roles) for split, standings in stages.items()]
    said = verdict(stages["test"], roles)
    Console().print(tables[-1].turned().terminal())
    Console().print(said, highlight=False)
    text = "\n".join([*(one.markdown() for one in tables), said])
    write_whole(folder / "table.md", f"{text}\n".encode())
    write_csv(folder / "results.csv", [line(split, s, roles) for split, found in stages.items() for s in found])
    write_whole(folder / "picture.png", picture(stages["validation"], real["validation"], roles))


def table(split: str, standings: Sequence[Standing], real: Marks, roles: Roles) -> Table:
    """A row a sampler, and real cells."""
    head = ["sampler", "passes", "total", "total − published", "MoA, judge", "MoA − published", "Fréchet"]
    head += ["Fréchet − published", *PERCENT.values()]
    rows = []
    for s in standings:
        row = [label(s.sampling, roles), str(s.sampling.passes), number(s.means["total"], decimals=2)]
        row += [spelled(s.total, sign=True), number(s.means["judge_moa"], decimals=3)]
        row += [spelled(s.judge_moa, sign=True, decimals=3), number(s.means["frechet"], decimals=3)]
        row += [spelled(s.frechet, sign=True, decimals=3)]
        rows.append(row + [spelled(scaled(getattr(s, name), 100), decimals=1) for name in PERCENT])
    figures = real.figures()
    means = [number(figures[name], decimals=d) for name, d in (("total", 2), ("judge_moa", 3), ("frechet", 3))]
    rows.append(["real", "", means[0], "", means[1], "", means[2], "", "", ""])
    n = len(real.of("total"))
    title = f"On {n} contexts of the {split} split; in brackets 95 % intervals over contexts; a loss below 0 is a gain"
    return Table(title, head, rows)


def verdict(standings: Sequence[Standing], roles: Roles) -> str:
    """What the chosen sampler loses, as a sentence."""
    found, published = chosen(standings, roles), standings[0].sampling
    total, frechet = (spelled(scaled(i, 100), decimals=1) for i in (found.total_lost, found.frechet_lost))
    return (
        f"{label(found.sampling, {})} needs {found.sampling.passes} passes an image in place of {published.passes}. It"
        f" loses {total} % of the gap |real − published| in total, and {frechet} % in Fréchet distance."
    )


def line(split: str, s: Standing, roles: Roles) -> dict[str, object]:
    """A line of results.csv; losses are shares."""
    about = {"split": split, "solver": s.sampling.solver, "steps": s.sampling.steps, "grid": s.sampling.grid}
    about |= {"guidance": s.sampling.guidance, "passes": s.sampling.passes, "role": roles.get(s.sampling, "")}
    about |= {name: round(s.means[name], 5) for name in ("total", "judge_moa", "frechet")}
    differences = {"total_gain": s.total, "judge_moa_gain": s.judge_moa, "frechet_gain": s.frechet}
    for name, i in (differences | {name: getattr(s, name) for name in PERCENT}).items():
        about |= {f"{name}{end}": round(x, 5) + 0.0 for end, x in zip(("", "_low", "_high"), i, strict=True)}
    return about


def picture(standings: Sequence[Standing], real: Marks, roles: Roles) -> bytes:
    """PNG: total, judge of MoA and Frechet distance against passes; the worst quarter of the samplers lies outside."""
    figure = Figure(figsize=(15, 4.8), dpi=150, layout="constrained")
    panels = {"total": "total reward", "judge_moa": "MoA, held-out judge", "frechet": "Fréchet distance"}
    curves: dict[tuple[str, str, float], list[Standing]] = {}
    for s in standings:
        curves.setdefault((s.sampling.solver, s.sampling.grid, s.sampling.guidance), []).append(s)
    curves = dict(sorted(curves.items()))
    ticks = sorted({s.sampling.passes for s in standings})
    colours, marks, strokes = (
        dict(zip(dict.fromkeys(key[i] for key in curves), cycle(looks), strict=False))
        for i, looks in enumerate((COLOURS, "osD^", ("-", "--", ":", "-.")))
    )
    for axes, (name, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for (solver, grid, guidance), points in curves.items():
            points = sorted(points, key=lambda s: s.sampling.passes)
            x, y = zip(*((s.sampling.passes, s.means[name]) for s in points), strict=True)
            look = {"color": colours[solver], "marker": marks[grid], "linestyle": strokes[guidance]}
            axes.plot(x, y, markersize=4, label=f"{solver}, {grid}, guidance {guidance:g}", **look)
        best = chosen(standings, roles)
        axes.plot(best.sampling.passes, best.means[name], "ko", fillstyle="none", markersize=12, label="chosen")
        axes.axhline(standings[0].means[name], color="black", linewidth=0.8, label="published")
        axes.axhline(real.figures()[name], color="black", linestyle=":", linewidth=1, label="real cells")
        bad, end = (0.75, "top") if name == "frechet" else (0.25, "bottom")
        axes.set_ylim(**{end: np.quantile([s.means[name] for s in standings], bad)})
        axes.set(xscale="log", xlabel="network passes an image", title=title)
        axes.set_xticks(ticks, labels=map(str, ticks))
        axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return finish(figure, figure.axes)
