"""Charts: PNG files by matplotlib, and parts of SVG pictures that a page draws in its own colours."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 320, 170  # of an SVG chart
LEFT, RIGHT, TOP, BOTTOM = 44, 312, 8, 148  # of its plot
BINS = (8, 28)  # of a histogram, at least and at most
TAIL = 0.005  # of the values that lie beyond either end of a histogram's axis, and count in its last bar


def encode_png(figure: Figure, plots: Sequence[Axes]) -> bytes:
    """PNG of the figure; the upper and right spines of the plots are removed."""
    for axes in plots:
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


class Line(NamedTuple):
    """Values y at x, (k,) each, nan where there are none. tone: of the page's colours."""

    label: str
    tone: str
    x: ArrayLike
    y: ArrayLike
    band: tuple[ArrayLike, ArrayLike] | None = None  # lower and upper ends
    thin: ArrayLike | None = None  # values of which y is a running mean


class Drawn(NamedTuple):
    """SVG paths of a line."""

    label: str
    tone: str
    path: str
    band: str = ""
    thin: str = ""


class Chart(NamedTuple):
    """An SVG chart. Ticks: (position, text). rule: height of a horizontal line, of real cells or of zero."""

    title: str
    note: str
    lines: list[Drawn]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    rule: float | None = None


class Scale(NamedTuple):
    """From values to positions between two ends of the plot."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Positions of values."""
        share = (np.asarray(values, np.float64) - self.low) / ((self.high - self.low) or 1.0)
        return np.asarray(self.start + share * (self.end - self.start))

    def ticks(self, most: int, *, whole: bool = False) -> list[tuple[float, str]]:
        """Round values inside the scale, with their positions. whole: no fractions."""
        values = MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole).tick_values(self.low, self.high)
        inside = [x for x in values if self.low <= x <= self.high]
        texts = [f"{x:.6g}".replace("-", "−").replace("e−0", "e−") for x in np.round(inside, 10)]
        return list(zip(self(inside).round(1).tolist(), texts, strict=True))


def line_chart(
    title: str, lines: Sequence[Line], *, note: str = "", log_x: bool = False, rule: float | None = None
) -> Chart:
    """Lines on common axes; log_x: a doubling is as wide as any other."""
    x_all = np.concatenate([np.asarray(line.x, np.float64) for line in lines])
    y_all = [np.asarray(y, np.float64) for line in lines for y in (line.y, *(line.band or ()), *_given(line.thin))]
    low, high = _span(np.concatenate([*y_all, [] if rule is None else [rule]]))
    position = np.log2 if log_x else np.asarray
    x_scale = Scale(float(position(x_all.min())), float(position(x_all.max())), LEFT, RIGHT)
    y_scale = Scale(low, high, BOTTOM, TOP)
    drawn = []
    for line in lines:
        x = x_scale(position(np.asarray(line.x, np.float64)))
        band = polygon(x, y_scale(line.band[0]), y_scale(line.band[1])) if line.band else ""
        thin = "" if line.thin is None else polyline(x, y_scale(line.thin))
        drawn.append(Drawn(line.label, line.tone, polyline(x, y_scale(line.y)), band, thin))
    powers = [2.0**k for k in range(int(x_scale.low), int(x_scale.high) + 1)] if log_x else []
    x_ticks = [(float(x_scale(np.log2(x)).round(1)), f"{x:g}") for x in powers] or x_scale.ticks(5, whole=True)
    return Chart(title, note, drawn, x_ticks, y_scale.ticks(4), None if rule is None else float(y_scale(rule).round(1)))


def histogram_chart(
    title: str, values: Mapping[str, NDArray[np.float64]], tones: Mapping[str, str], *, note: str = ""
) -> Chart | None:
    """Histograms of the defined values of each row, on common bins, each of the same area; None without values."""
    known = {row: x[np.isfinite(x)] for row, x in values.items()}
    known = {row: x for row, x in known.items() if len(x)}
    if not known:
        return None
    edges = bin_edges(np.concatenate(list(known.values())), fewest=min(len(x) for x in known.values()))
    shares = {
        row: np.histogram(x.clip(edges[0], edges[-1]), edges)[0] / len(x) for row, x in known.items()
    }  # values beyond the ends count in the last bars
    x_scale = Scale(float(edges[0]), float(edges[-1]), LEFT, RIGHT)
    y_scale = Scale(0, max(float(share.max()) for share in shares.values()) * 1.05, BOTTOM, TOP)
    x = x_scale(edges).repeat(2)[1:-1]
    drawn = [
        Drawn(row, tones[row], polyline(x, y), polygon(x, y, np.full_like(y, BOTTOM)))
        for row, share in shares.items()
        if len(y := y_scale(share.repeat(2)))
    ]
    return Chart(title, note, drawn, x_scale.ticks(5), [])


def bin_edges(values: NDArray[np.float64], *, fewest: int) -> NDArray[np.float64]:
    """Edges of bins: one for each count, if the values are few whole numbers; else equal ones, without the tails.

    fewest: values of a row; 2 fewest^(1/3) bins (Rice's rule), within `BINS`.
    """
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    if np.all(values == values.round()) and values.max() - values.min() < BINS[1]:
        return np.arange(values.min() - 0.5, values.max() + 1)
    bins = int(np.clip(np.ceil(2 * fewest ** (1 / 3)), *BINS))
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def polyline(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """SVG path through points, (k,) each, with a gap where y is nan."""
    path, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        path.append(f"{pen}{a:.4g} {b:.4g}" if np.isfinite(b) else "")
        pen = "L" if np.isfinite(b) else "M"
    return "".join(path)


def polygon(x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    """SVG path around the area between two lines; points where one is nan are left out."""
    known = np.isfinite(low) & np.isfinite(high)
    around = polyline(np.append(x[known], x[known][::-1]), np.append(low[known], high[known][::-1]))
    return f"{around}Z" if around else ""


def _given(values: ArrayLike | None) -> list[ArrayLike]:
    return [] if values is None else [values]


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of an axis that holds these values, with a little air; nan is left out."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    air = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - air, high + air
