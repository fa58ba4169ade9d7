"""Encode charts as PNG files."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def encode_png(figure: Figure, plots: Sequence[Axes]) -> bytes:
    """PNG of the figure; the upper and right spines of the plots are removed."""
    for axes in plots:
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
