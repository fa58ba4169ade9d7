"""The paper's questions, each a set of DiffusionNFT runs that differ in one thing and cost the same.

    python examples/studies.py single        # one reward alone against all seven; see docs/studies.md for the others
    python examples/studies.py kl --full     # the larger grid, three seeds, runs as long as train_nft.py
    python examples/studies.py form --preset smoke

Writes results.csv (a line for each setting, seed and point), table.md and picture.png to runs/studies/NAME; the runs
lie in runs/studies/runs, and what studies have in common is run once. Started again, a study goes on behind the last
finished run; when all are finished it only prints.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import tyro
from command_line import parse
from plans import Candidate, Plan

from algorithms.verdict import REWARDS

Question = Literal["single", "kl", "beta", "coupling", "group_size", "form"]


@dataclass(frozen=True, kw_only=True)
class Config(Plan):
    study: tyro.conf.Positional[Question] = tyro.MISSING
    full: bool = False  # the larger grid
    output_dir: Path = Path("runs/studies")  # NAME and runs, or NAME-full and runs-full, are put under it
    budget: int | None = None  # passes of a run; None: that of the grid
    seeds: tuple[int, ...] | None = None  # None: those of the grid
    points: int = 1


PRESETS = {
    "default": Config(),
    "smoke": Config(output_dir=Path("runs/studies-smoke"), budget=900, contexts=12, images=48, seeds=(0,)),
}


START = {"beta": 0.1}  # what a study varies one thing of: the setting of DiffusionNFT that compare.py chose
SHORT = 50_000  # 24 iterations, about three minutes of two cores with the evaluation
LONG = 324_000  # 160 iterations, as train_nft.py
TWO, THREE = (1, 2), (1, 2, 3)  # 0 chose the defaults


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is run: every candidate with every seed."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    budget: int = SHORT

    @property
    def runs(self) -> int:
        return len(self.candidates) * len(self.seeds)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question and the runs that answer it."""

    asks: str
    reduced: Grid
    full: Grid
    matrix: bool = False  # the picture is a matrix of gains, not a race


def vary(**options: tuple[object, ...]) -> tuple[Candidate, ...]:
    """A candidate for each combination of the values, named after them."""
    told = [dict(zip(options, values, strict=True)) for values in product(*options.values())]
    return tuple(Candidate(name=",".join(f"{k}={v}" for k, v in one.items()), options=START | one) for one in told)


def decayed(betas: tuple[float, ...], decays: Mapping[str, tuple[float, float]]) -> tuple[Candidate, ...]:
    """Every beta with every decay of the old weights, (slope, most)."""
    return tuple(
        Candidate(name=f"beta={beta},decay={name}", options={"beta": beta, "decay_slope": slope, "decay_most": most})
        for beta, (name, (slope, most)) in product(betas, decays.items())
    )


ALONE = (
    *(Candidate(name=name, options=START, weights={name: 1.0}) for name in REWARDS),
    Candidate(name="combination", options=START),
)
DECAYS = {"published": (0.001, 0.5), "0.8": (0.8, 0.8)}

STUDIES: dict[Question, Study] = {
    "single": Study(
        asks="Is a model that learns one reward best at it, and what becomes of the others?",
        reduced=Grid(candidates=ALONE, seeds=TWO),
        full=Grid(candidates=ALONE, seeds=THREE, budget=LONG),
        matrix=True,
    ),
    "kl": Study(
        asks="What does the pull to the base cost, and does a weak one favour morphology, a strong one MoA?",
        reduced=Grid(candidates=vary(kl_weight=(1e-4, 0.4, 10.0)), seeds=TWO),
        full=Grid(candidates=vary(kl_weight=(0.0, 1e-4, 0.01, 0.1, 0.2, 0.4, 1.0, 10.0)), seeds=THREE, budget=LONG),
    ),
    "beta": Study(
        asks="How do the width of the NFT loss and the lag of the old weights act together?",
        reduced=Grid(candidates=decayed((0.1, 1.0), DECAYS), seeds=TWO),
        full=Grid(
            candidates=decayed((0.1, 0.5, 1.0, 2.0), DECAYS | {"0.5": (0.5, 0.5), "0.9": (0.9, 0.9)}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "coupling": Study(
        asks="Which source re-noises an image: another control, the same control, or the very source it came from?",
        reduced=Grid(candidates=vary(coupling=("independent", "group", "generating")), seeds=TWO),
        full=Grid(
            candidates=vary(coupling=("independent", "group", "generating"), times=("uniform", "rollout")),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "group_size": Study(
        asks="Of 144 images an iteration, are many contexts better, or many images of each?",
        reduced=Grid(candidates=vary(group_size=(2, 12, 48)), seeds=TWO),
        full=Grid(candidates=vary(group_size=(2, 3, 4, 6, 8, 12, 24, 48)), seeds=THREE, budget=LONG),
    ),
    "form": Study(
        asks="Is the adaptive form of the published code better than the plain one of the paper?",
        reduced=Grid(candidates=vary(loss=("adaptive", "plain")), seeds=TWO),
        full=Grid(
            candidates=vary(loss=("adaptive", "plain"), learning_rate=(1e-4, 3e-4, 1e-3)), seeds=THREE, budget=LONG
        ),
    ),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from equal_cost import run_all, run_name
from results import load_csv
from standings import heat, publish


def usual(plan: Plan, candidates: Iterable[Candidate]) -> str:
    """The name of the one that is START as it is, the others are compared with it; "" if none is."""
    start = run_name(plan, Candidate(name="start", options=START))
    return next((candidate.name for candidate in candidates if run_name(plan, candidate) == start), "")


def main(config: Config) -> None:
    study = STUDIES[config.study]
    grid = study.full if config.full else study.reduced
    size = "-full" if config.full else ""
    folder, runs = config.output_dir / f"{config.study}{size}", config.runs_dir or config.output_dir / f"runs{size}"
    plan = replace(config, output_dir=folder, runs_dir=runs, budget=config.budget or grid.budget)
    results = run_all(plan, grid.candidates, config.seeds or grid.seeds, split="test")
    seeds = load_csv(folder / "results.csv", "setting")
    publish(
        results,
        seeds,
        folder,
        label="setting",
        usual=usual(plan, grid.candidates),
        picture=heat(results) if study.matrix else None,
    )


if __name__ == "__main__":
    main(CONFIG)
