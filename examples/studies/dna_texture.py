"""How coarse the DNA of generated nuclei is beside that of real ones, and what it costs.

    python -m examples.studies.dna_texture --models runs/nft/model

On validation contexts of the studies, one image each. Prints, for each mechanism of action, the texture of the DNA and
the probability that the judge gives the mechanism: of real cells, of the base and of each model, as they are and with
their DNA sharpened; and the Frechet distances to other real cells.
"""

from dataclasses import dataclass

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class TextureConfig:
    models: tuple[str, ...] = ("runs/nft/model",)
    contexts: int = 512
    seed: int = 0


PRESETS = {"default": TextureConfig(), "smoke": TextureConfig(models=(), contexts=4)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from tqdm import tqdm

from algorithms.evaluation.comparison import sampled_row
from algorithms.evaluation.distances import frechet_distance, standardise
from algorithms.evaluation.evaluator import CachedCall, JudgeHead
from algorithms.evaluation.held_out import held_out
from algorithms.recipes.fit.classifier_augmentation import blur
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from examples.studies.equal_cost import DRAW, TREATED
from rewards import EmbeddedSegmenter, JudgeClassifier

FINE = 2.0  # px, sigma of the Gaussian blur that fine structure does not survive
RIM = 4  # px, of a nucleus, left out: its edge is no texture
SHARPENING = 2.0  # how often what a blur of 1.5 px takes away is added
BATCH = 64


def dna_texture(images: Tensor, nuclei: Tensor) -> Tensor:
    """rms of DNA - blurred DNA, over mean DNA, inside nuclei: (B, 3, H, W) in [-1, 1], labels (B, H, W) -> (B,).

    nan without a nucleus that is wider than its rim.
    """
    inside = -max_pool2d(-(nuclei > 0).float().unsqueeze(1), 2 * RIM + 1, 1, RIM)
    dna = images[:, 2:]
    fine = (dna - blur(dna, FINE)) / 2
    square, mean = (((x * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))) for x in (fine.square(), (dna + 1) / 2))
    return square.sqrt() / mean


def sharpen_dna(images: Tensor) -> Tensor:
    """An unsharp mask of the DNA alone, (B, 3, H, W) in [-1, 1]."""
    dna = images[:, 2:]
    sharp = (dna + SHARPENING * (dna - blur(dna, 1.5))).clamp(-1, 1)
    return torch.cat([images[:, :2], sharp], 1)


@torch.no_grad()
def main(config: TextureConfig) -> None:
    data = SyntheticCells("validation", draw=DRAW, treated=TREATED)
    contexts, rows, references = held_out(data, config.contexts, config.seed)
    sources = {"real": lambda index: data.images(rows[index])}
    for name in ("embedded", *config.models):
        sources[name] = sampled_row(CellFlux.from_pretrained(name), contexts, 1).images_at
    batches = torch.arange(len(rows)).split(BATCH)
    images = {
        name: torch.cat([images_at(index) for index in tqdm(batches, desc=name)]) for name, images_at in sources.items()
    }
    images |= {f"{name}, sharpened": sharpen_dna(x) for name, x in images.items() if name != "real"}

    segmenter, judge = EmbeddedSegmenter.from_pretrained(), JudgeClassifier.from_pretrained()
    texture = {name: dna_texture(x, segmenter(x).nuclei) for name, x in images.items()}
    classify = JudgeHead(judge, CachedCall(judge.features)).classify
    judged = {name: classify(x) for name, x in images.items()}  # probabilities and features
    chance = {name: p.gather(1, contexts["moa"].unsqueeze(1)) for name, (p, _) in judged.items()}
    real = judge.features(data.images(references))
    y = standardise(real, real)
    distance = {name: frechet_distance(standardise(features, real), y) for name, (_, features) in judged.items()}

    print(f"| texture; MoA, judge | {' | '.join(images)} |")
    print("|---" * (1 + len(images)) + "|")
    for moa in contexts["moa"].unique():
        of = contexts["moa"] == moa
        cells = [f"{texture[name][of].nanmean():.3f}; {chance[name][of].mean():.2f}" for name in images]
        print(f"| {data.moas[moa]} | {' | '.join(cells)} |")
    print(f"| Fréchet distance | {' | '.join(f'{value:.2f}' for value in distance.values())} |")


if __name__ == "__main__":
    main(CONFIG)
