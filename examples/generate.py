"""Draw from a generator on the held-out contexts of evaluate.py, into a folder that `evaluate.py --images` reads.

    python examples/generate.py --generator runs/nft/model --output-dir runs/nft/images
    python examples/evaluate.py --images rl=runs/nft/images

Contexts and noise are those of evaluate.py with the same --contexts, --group-size, --seed and choice of cells.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from options import Cells


@dataclass(frozen=True, kw_only=True)
class Config(Cells):
    generator: str = "embedded"  # a folder with weights, of a baseline too, or the name of a shipped generator
    output_dir: Path = Path("runs/images")
    contexts: int = 256  # held-out contexts; fewer if there are not twice as many treated images
    group_size: int = 4  # samples of each context, by noise alone
    unseen: bool = False  # the compounds that no generator was trained on
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts and noise


PRESETS = {
    "default": Config(),
    "smoke": Config(contexts=12, group_size=2, output_dir=Path("runs/images-smoke")),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import torch
from baselines import load_generator
from evaluate import held_out_cells, sample_groups
from image_folder import check_new, write_folder
from loading import check_generators
from tqdm import tqdm

from algorithms.evaluation import held_out


def main(config: Config) -> None:
    check_new(config.output_dir)
    generator = load_generator(config.generator).to("cuda" if torch.cuda.is_available() else "cpu")
    data, contexts = held_out_cells(config, config.contexts, unseen=config.unseen)
    check_generators(data, generator)
    scene, _, _ = held_out(data, contexts, config.seed)
    with tqdm(total=contexts * config.group_size, desc="generate", unit="image") as bar:
        images = sample_groups(generator, scene, config.group_size, config.batch_size, bar)
    write_folder(config.output_dir, images, scene, data)


if __name__ == "__main__":
    main(CONFIG)
