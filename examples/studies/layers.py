"""Which layers of a trained generator bring the rewards, and which move its images away from real ones.

    python -m examples.studies.layers --models runs/nft/model

Evaluates generators that have the trained weights in some layers and the base's in all others, by the levels of the
U-Net, on the validation contexts of the studies. Of several models, of different seeds, the mean of their weights
stands for what training has in common; the embedded base must be what they started from.
"""

from dataclasses import dataclass

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class LayersConfig:
    models: tuple[str, ...] = ("runs/nft/model",)
    contexts: int = 256
    images: int = 2  # of each context
    seed: int = 0


PRESETS = {"default": LayersConfig(), "smoke": LayersConfig(models=("embedded",), contexts=4)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from algorithms.evaluation.evaluator import build_evaluator
from algorithms.evaluation.periodic_eval import PeriodicEval
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.networks import UNet
from examples.studies.equal_cost import DRAW, TREATED

COLUMNS = {"total": "total", "moa": "MoA", "judge_moa": "MoA, judge", "judge_containment": "containment, judge"}
FIGURES = {"frechet": "Fréchet / base's", "kernel": "kernel / base's", "diversity": "diversity / base's"}


def mean_weights(models: Sequence[str]) -> dict[str, Tensor]:
    """The mean of the weights of generators of one architecture, by name."""
    states = [CellFlux.from_pretrained(model).network.state_dict() for model in models]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def parts_of(network: UNet) -> dict[str, set[str]]:
    """Names of the weights of each level, and of the embeddings, which are all others."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    parts = {
        f"level {level}": {names[id(p)] for layer in network.level(level) for p in layer.parameters()}
        for level in range(len(network.config.multipliers))
    }
    return {**parts, "embeddings": set(names.values()) - set().union(*parts.values())}


def swapped(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], parts: Mapping[str, set[str]]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Weights that are trained nowhere, everywhere, in one part alone, and in all but one, each with its name."""
    names = {"nothing (base)": set(), "everything": set(base)}
    names |= {f"{part} alone": of for part, of in parts.items()}
    names |= {f"all but {part}": set(base) - of for part, of in parts.items()}
    for name, of in names.items():
        yield name, {key: trained[key] if key in of else value for key, value in base.items()}


def row(name: str, means: Mapping[str, float], base: Mapping[str, float]) -> str:
    """A line of the table, from means over contexts."""
    cells = [f"{means[key]:.3f}" for key in COLUMNS] + [f"{means[key] / base[key]:.2f}" for key in FIGURES]
    return f"| {name} | {' | '.join(cells)} |"


def main(config: LayersConfig) -> None:
    data = SyntheticCells("validation", draw=DRAW, treated=TREATED)
    evaluate = PeriodicEval.create(
        data, build_evaluator(data), contexts=config.contexts, group_size=config.images, seed=config.seed
    )
    generator = CellFlux.from_pretrained("embedded").eval()
    network = generator.network
    assert isinstance(network, UNet)
    base = {name: weight.clone() for name, weight in network.state_dict().items()}
    weights = dict(swapped(base, mean_weights(config.models), parts_of(network)))
    results = {}
    for name, state in tqdm(weights.items(), desc="layers"):
        network.load_state_dict(state)
        results[name] = evaluate(generator).means()
    print(f"| trained | {' | '.join([*COLUMNS.values(), *FIGURES.values()])} |")
    print("|---" * (1 + len(COLUMNS) + len(FIGURES)) + "|")
    for name, means in results.items():
        print(row(name, means, results["nothing (base)"]))


if __name__ == "__main__":
    main(CONFIG)
