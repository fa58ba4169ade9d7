"""Processor time of each segmenter for a cell of 96 x 96 px, and its ratio to the embedded segmenter's.

    OMP_NUM_THREADS=1 python -m examples.studies.time_segmenters
    OMP_NUM_THREADS=1 python -m examples.studies.time_segmenters --nucleus-weights nuclei --cell-weights cyto3

Without weights, Cellpose 3.1 runs with random ones. Its networks do all of their work; then their output is replaced by
one that marks bright pixels, since the time of decoding depends on the objects.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class TimingConfig:
    images: int = 32
    repeats: int = 3
    nucleus_weights: str | None = None  # of Cellpose; random when both are None
    cell_weights: str | None = None
    flow_threshold: float = 0.4  # of Cellpose
    output: Path = Path("runs/segmenter-times.md")


PRESETS = {
    "default": TimingConfig(),
    "smoke": TimingConfig(images=2, repeats=1, output=Path("runs/smoke/segmenter-times.md")),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from tempfile import TemporaryDirectory
from time import process_time

import torch
from skimage.measure import label
from torch import Tensor, nn

from algorithms.files import write_whole
from cellenv.data.synthetic import SyntheticCells
from rewards.segmentation import CellposeSegmenter, ClassicalSegmenter, EmbeddedSegmenter
from rewards.segmentation.protocol import Segmenter
from rewards.segmentation.targets import unit_flows


def mark_bright(planes: Tensor) -> Tensor:
    """Output of a perfectly trained Cellpose network for bright objects: 5 x flow and a logit, (B, 3, H, W).

    planes: (B, 2, H, W) in [0, 1]; objects are the connected pixels above 0.5 in the first plane.
    """
    inside = planes[:, :1] > 0.5
    labels = torch.stack([torch.from_numpy(label(one[0].numpy(), connectivity=1)) for one in inside]).int()
    return torch.cat([5 * unit_flows(labels), 10.0 * inside - 5], 1)


class NetworkTimer:
    """Processor time inside networks; `excluded` is the time of computing outputs that replace theirs."""

    def __init__(self) -> None:
        self.network, self.excluded, self.start = 0.0, 0.0, 0.0

    def reset(self) -> None:
        """Start again from 0."""
        self.network = self.excluded = 0.0

    def attach(self, network: nn.Module, *, replace_output: bool) -> None:
        """Time the forward passes of a network. replace_output: return `mark_bright` of its input."""

        def before(network: nn.Module, args: tuple[Tensor]) -> None:
            self.start = process_time()

        def after(network: nn.Module, args: tuple[Tensor], out: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            self.network += process_time() - self.start
            if not replace_output:
                return None
            start = process_time()
            out = (mark_bright(args[0]), *out[1:])
            self.excluded += process_time() - start
            return out

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)


def save_random_weights(folder: Path) -> tuple[Path, Path]:
    """Write Cellpose 3.1 weights for nuclei and cells, of the network sizes and diameters of its own models."""
    from cellpose.resnet_torch import CPnet

    files = folder / "nuclei", folder / "cells"
    for file, px in zip(files, (17.0, 30.0), strict=True):
        torch.save(CPnet([2, 32, 64, 128, 256], 3, 3, diam_mean=px).state_dict(), file)
    return files


def timed_cellpose(config: TimingConfig) -> tuple[CellposeSegmenter, NetworkTimer]:
    """Cellpose on the CPU, with the weights of the config or random ones, and the timer of its networks."""
    random = config.nucleus_weights is None and config.cell_weights is None
    with TemporaryDirectory() as folder:
        weights = save_random_weights(Path(folder)) if random else (config.nucleus_weights, config.cell_weights)
        segmenter = CellposeSegmenter(*weights, flow_threshold=config.flow_threshold, device="cpu")
    timer = NetworkTimer()
    for model in {id(one.model): one.model for one in (segmenter.nuclei, segmenter.cells)}.values():
        timer.attach(model.net, replace_output=random)
    return segmenter, timer


def measure(config: TimingConfig) -> str:
    """Table of times as Markdown."""
    data = SyntheticCells("test")
    images = data.images(data.treated[:: len(data.treated) // config.images][: config.images])
    cellpose, timer = timed_cellpose(config)
    segmenters: dict[str, Segmenter] = {
        "embedded": EmbeddedSegmenter.from_pretrained(),
        "classical": ClassicalSegmenter(),
        "Cellpose": cellpose,
    }
    lines = ["| segmenter | ms an image | of these in networks | times the embedded |", "|---|---|---|---|"]
    embedded_ms = 0.0
    for name, segmenter in segmenters.items():
        segmenter(images)  # compiles
        timer.reset()
        start = process_time()
        for _ in range(config.repeats):
            segmenter(images)
        ms_per_second = 1e3 / (config.repeats * len(images))
        ms = (process_time() - start - timer.excluded) * ms_per_second
        embedded_ms = embedded_ms or ms
        networks = f"{timer.network * ms_per_second:.1f}" if segmenter is cellpose else ""
        lines.append(f"| {name} | {ms:.1f} | {networks} | {ms / embedded_ms:.1f} |")
    return "\n".join(lines) + "\n"


def main(config: TimingConfig) -> None:
    table = measure(config)
    write_whole(config.output, table.encode())
    print(table)


if __name__ == "__main__":
    main(CONFIG)
