"""Measure the 0 and 1 of the benchmark's score: what the untouched generator and the oracle earn on the fixed contexts.

    python examples/fit_gym.py

Writes cellenv/assets/gym.json; run it again whenever generator or rewards change. Steer's oracle is the best of 64
random actions, so that this draws 76,000 images in all.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    output: Path = Path("cellenv/assets/gym.json")
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    contexts: int = 1000


PRESETS = {"default": Config(), "smoke": Config(output=Path("runs/gym-smoke/gym.json"), contexts=2)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Iterator
from dataclasses import replace

from tensordict import TensorDict

from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.gym import Paint, Scale, Select, Steer, World
from cellenv.gym.score import Fingerprint, fixed_contexts


def scales(world: World, contexts: TensorDict) -> Iterator[Scale]:
    """Measure the scale of every task."""
    yield (select := Scale.fit(Select(world), contexts))
    yield replace(select, fingerprint=Fingerprint.of(Paint(world), contexts))  # the same eight draws
    yield Scale.fit(Steer(world), contexts)


def fit(world: World, config: Config) -> None:
    """Measure and store the scale of every task."""
    for scale in scales(world, fixed_contexts(world.data, config.contexts)):
        scale.save(config.output)
        mean = [sum(values) / len(values) for values in (scale.untouched, scale.oracle)]
        print(f"{scale.fingerprint.task}: untouched {mean[0]:.3f}, oracle {mean[1]:.3f}")


def main(config: Config) -> None:
    fit(World(CellFlux.from_pretrained(config.generator), SyntheticCells("test")), config)


if __name__ == "__main__":
    main(CONFIG)
