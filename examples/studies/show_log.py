"""Draw the curves of a post-training from its log.jsonl: the picture of docs/logs.md.

python -m examples.studies.show_log --log runs/nft/log.jsonl --output docs/log_healthy.png

Thin lines are iterations, thick ones means over the last ten.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ShowLogConfig:
    log: Path = Path("runs/nft/log.jsonl")
    output: Path = Path("runs/log.png")


PRESETS = {"default": ShowLogConfig(), "smoke": ShowLogConfig(log=Path("runs/nft-smoke/log.jsonl"))}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from collections.abc import Mapping
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from algorithms.evaluation.charts import encode_png
from algorithms.evaluation.pages.training_curves import SINGLE, WINDOW, metric, reward_keys, running_mean
from algorithms.files import write_whole
from algorithms.logs import Log, read_log

COLUMNS = 3
COLOURS = ("#3d5a9e", "#c8553d", "#4c956c", "#8d6a9f", "#d4a017", "#2a9d8f", "#6b705c", "#111111")


def panels(log: Log) -> dict[str, dict[str, str]]:
    """Curves of each panel, label to key; a panel of which the log has nothing is left out."""
    keys = dict.fromkeys(key for line in log for key in line)
    shares = {key.split("/")[1]: key for key in keys if key.startswith("signal_share/")}
    found = {key: {key: key} for key in SINGLE if key in keys}
    found |= {"gain of each reward since the first ten": reward_keys({"": log}), "share of the signal": shares}
    return {title: curves for title, curves in found.items() if curves}


def plot(log: Log) -> bytes:
    """PNG of all panels, in few colours: a third of the size."""
    drawn = panels(log)
    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 2.8 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for plot, (title, curves) in zip(axes, drawn.items(), strict=False):
        draw_panel(plot, log, title, curves)
    for unused in axes[len(drawn) :]:
        unused.set_axis_off()
    content = BytesIO()
    picture = Image.open(BytesIO(encode_png(figure, figure.axes))).convert("RGB")
    picture.quantize(128).save(content, "png", optimize=True)
    return content.getvalue()


def draw_panel(axes: Axes, log: Log, title: str, curves: Mapping[str, str]) -> None:
    """Draw the curves of one panel; several are drawn as means alone, with a legend."""
    iterations = [line["iteration"] for line in log]
    for colour, (label, key) in zip(COLOURS * len(curves), curves.items(), strict=False):
        values = metric(log, key)
        mean = running_mean(values)
        start = mean[min(WINDOW, len(mean)) - 1] if title.startswith("gain") else 0.0
        if len(curves) == 1:
            axes.plot(iterations, values, color=colour, alpha=0.3, linewidth=1)
        axes.plot(iterations, mean - start, color=colour, linewidth=2, label=label.replace("_", " "))
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(title=title.replace("_", " "), xlabel="iteration")
    axes.xaxis.get_major_locator().set_params(integer=True)


def main(config: ShowLogConfig) -> None:
    if not (log := read_log(config.log)):
        raise ValueError(f"{config.log} holds no iteration: give the log.jsonl of a post-training")
    write_whole(config.output, plot(log))


if __name__ == "__main__":
    main(CONFIG)
