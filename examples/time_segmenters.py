"""Processor time that each segmenter takes for a cell of 96 x 96 px, and how many times the embedded segmenter's.

    OMP_NUM_THREADS=1 python examples/time_segmenters.py
    OMP_NUM_THREADS=1 python examples/time_segmenters.py --nucleus-weights nuclei --cell-weights cyto3

Without weights, Cellpose 3.1 runs with random ones: its networks do all of their work, and then their answer is
replaced by one that marks what is bright, since the time that masks take depends on the objects in them.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    images: int = 32
    repeats: int = 3
    nucleus_weights: str | None = None  # of Cellpose; random when both are None
    cell_weights: str | None = None
    flow_threshold: float = 0.4  # of Cellpose
    output: Path = Path("runs/segmenter-times.md")


PRESETS = {"default": Config(), "smoke": Config(images=2, repeats=1, output=Path("runs/smoke/segmenter-times.md"))}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

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


def bright(planes: Tensor) -> Tensor:
    """What a trained network answers to planes (B, 2, H, W): 5 x flow and logit of what is over 0.5. (B, 3, H, W)."""
    inside = planes[:, :1] > 0.5
    labels = torch.stack([torch.from_numpy(label(one[0].numpy(), connectivity=1)) for one in inside]).int()
    return torch.cat([5 * unit_flows(labels), 10.0 * inside - 5], 1)


class Watch:
    """Counts the seconds of networks; `free` are those of the answers that replace theirs."""

    def __init__(self) -> None:
        self.network, self.free, self.start = 0.0, 0.0, 0.0

    def observe(self, network: nn.Module, *, replace: bool) -> None:
        def before(network: nn.Module, args: tuple[Tensor]) -> None:
            self.start = process_time()

        def after(network: nn.Module, args: tuple[Tensor], out: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            self.network += process_time() - self.start
            if not replace:
                return None
            start = process_time()
            out = (bright(args[0]), *out[1:])
            self.free += process_time() - start
            return out

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)


def random_weights(folder: Path) -> tuple[Path, Path]:
    """Files of Cellpose 3.1 for nuclei and cells, of the sizes that its own models know."""
    from cellpose.resnet_torch import CPnet

    files = folder / "nuclei", folder / "cells"
    for file, px in zip(files, (17.0, 30.0), strict=True):
        torch.save(CPnet([2, 32, 64, 128, 256], 3, 3, diam_mean=px).state_dict(), file)
    return files


def cellpose(config: Config) -> tuple[CellposeSegmenter, Watch]:
    """Cellpose on the CPU with the weights of the config or random ones, and the watch on its networks."""
    random = config.nucleus_weights is None and config.cell_weights is None
    with TemporaryDirectory() as folder:
        weights = random_weights(Path(folder)) if random else (config.nucleus_weights, config.cell_weights)
        segmenter = CellposeSegmenter(*weights, flow_threshold=config.flow_threshold, device="cpu")
    watch = Watch()
    for model in {id(one.model): one.model for one in (segmenter.nuclei, segmenter.cells)}.values():
        watch.observe(model.net, replace=random)
    return segmenter, watch


def measure(config: Config) -> str:
    """The table, as markdown."""
    data = SyntheticCells("test")
    images = data.images(data.treated[:: len(data.treated) // config.images][: config.images])
    found, watch = cellpose(config)
    embedded = EmbeddedSegmenter.from_pretrained()
    segmenters: dict[str, Segmenter] = {"embedded": embedded, "classical": ClassicalSegmenter(), "Cellpose": found}
    rows, base = ["| segmenter | ms an image | of these in networks | times the embedded |", "|---|---|---|---|"], 0.0
    for name, segmenter in segmenters.items():
        segmenter(images)  # compiles
        watch.network = watch.free = 0.0
        start = process_time()
        for _ in range(config.repeats):
            segmenter(images)
        each = 1e3 / (config.repeats * len(images))
        total = (process_time() - start - watch.free) * each
        base = base or total
        networks = f"{watch.network * each:.1f}" if segmenter is found else ""
        rows.append(f"| {name} | {total:.1f} | {networks} | {total / base:.1f} |")
    return "\n".join(rows) + "\n"


def main(config: Config) -> None:
    table = measure(config)
    write_whole(config.output, table.encode())
    print(table)


if __name__ == "__main__":
    main(CONFIG)
