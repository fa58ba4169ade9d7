"""Measure the 0 and 1 of the benchmark's score: mean rewards of the untouched generator and of the oracle.

    python -m examples.studies.fit_gym

Writes cellenv/assets/gym.json; run it again whenever generator or rewards change. Steer's oracle is the best of 8
random actions, so this samples 10,000 images in all.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class FitGymConfig:
    output: Path = Path("cellenv/assets/gym.json")
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    contexts: int = 500


PRESETS = {"default": FitGymConfig(), "smoke": FitGymConfig(output=Path("runs/gym-smoke/gym.json"), contexts=2)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from collections.abc import Iterator
from dataclasses import replace

from tensordict import TensorDict

from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.gym import Paint, Scale, Select, Steer, World
from cellenv.gym.score import Fingerprint, fixed_contexts


def measure_scales(world: World, contexts: TensorDict) -> Iterator[Scale]:
    """Scale of every task; Paint's is that of Select, since both rest on the same eight samples."""
    select = Scale.fit(Select(world), contexts)
    yield select
    yield replace(select, fingerprint=Fingerprint.of(Paint(world), contexts))
    yield Scale.fit(Steer(world), contexts)


def fit(world: World, config: FitGymConfig) -> None:
    """Measure, store and print the scale of every task."""
    for scale in measure_scales(world, fixed_contexts(world.data, config.contexts)):
        scale.save(config.output)
        untouched, oracle = (sum(values) / len(values) for values in (scale.untouched, scale.oracle))
        print(f"{scale.fingerprint.task}: untouched {untouched:.3f}, oracle {oracle:.3f}")


def main(config: FitGymConfig) -> None:
    fit(World(CellFlux.from_pretrained(config.generator), SyntheticCells("test")), config)


if __name__ == "__main__":
    main(CONFIG)
