"""How a chart becomes a file."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def finish(figure: Figure, plots: Sequence[Axes]) -> bytes:
    """The figure as PNG; plots lose their upper and right spines."""
    for axes in plots:
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
