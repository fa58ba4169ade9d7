"""Draw what training changed, on contexts of the largest gain and on random ones: the picture of results in the README.

python -m examples.studies.show_training --model runs/nft/model --output docs/before_after.png

Each column is a context: its control, the images of base and trained generator from the same noise, and a real image.
White outlines a nucleus, amber a cell; nuclear pixels outside all cells are red.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ShowTrainingConfig:
    model: str = "runs/nft/model"  # trained generator: a folder
    base: str = "embedded"  # the generator that it started from
    output: Path = Path("runs/before_after.png")
    contexts: int = 64  # of the test split, among which the largest gains in total are shown
    columns: int = 6  # of largest gain, and as many random ones
    seed: int = 0


PRESETS = {
    "default": ShowTrainingConfig(),
    "smoke": ShowTrainingConfig(model="embedded", output=Path("runs/smoke/before_after.png"), contexts=4, columns=1),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import torch
from torch import Tensor

from algorithms.evaluation.evaluator import build_evaluator
from algorithms.evaluation.periodic_eval import PeriodicEval
from algorithms.files import save_png
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.pictures import Picture, enlarge, grid, outlines
from cellenv.streams import rng_at
from rewards.segmentation import EmbeddedSegmenter

RED = (255, 48, 48)
ZOOM = 1


def outlined(images: Tensor, segmenter: EmbeddedSegmenter) -> Picture:
    """Pictures with outlines of nuclei and cells, nuclear pixels outside cells in red, (B, H, W, 3)."""
    masks = segmenter(images)
    pictures = outlines(images, (masks.nuclei, masks.cells), zoom=ZOOM)
    pictures[enlarge(((masks.nuclei > 0) & (masks.cells == 0)).numpy(), ZOOM)] = RED
    return pictures


def chosen_contexts(gain: Tensor, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the largest gains, in falling order, and of as many others at random; a gain of nan counts as 0."""
    best, others = gain.nan_to_num().argsort(descending=True).split([columns, len(gain) - columns])
    return best, others[torch.randperm(len(others), generator=rng_at(seed))[:columns]]


def main(config: ShowTrainingConfig) -> None:
    data = SyntheticCells("test")
    held_out = PeriodicEval.create(data, build_evaluator(data), contexts=config.contexts, seed=config.seed)
    base, trained = (held_out.sample(CellFlux.from_pretrained(name).eval()) for name in (config.base, config.model))
    gain = torch.from_numpy(held_out.evaluate(trained).of("total") - held_out.evaluate(base).of("total"))
    best, random = chosen_contexts(gain, config.columns, config.seed)
    chosen = torch.cat([best, random])
    segmenter = EmbeddedSegmenter.from_pretrained()
    rows = {"control": held_out.contexts["x0"], "base": base, "trained": trained, "real": held_out.real}
    titles = ["largest gain"] * len(best) + ["random"] * len(random)
    save_png(grid([outlined(x[chosen], segmenter) for x in rows.values()], list(rows), titles), config.output)


if __name__ == "__main__":
    main(CONFIG)
