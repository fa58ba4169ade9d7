"""How few network passes an image are enough: solver x steps x guidance x time grid against the published 200 passes.

    python examples/sampler_sweep.py                                   # the embedded generator
    python examples/sampler_sweep.py --generator runs/base/generator-007500 --guidances 0
    python examples/sampler_sweep.py --preset smoke

Contexts of the validation split choose a sampler; those of the test split report it, beside the published one, that one
without guidance, and the generator's own. All draw in the same contexts from the same noise. A sampler loses in total,
as a share of the gap between the published one and real cells, and in Frechet distance, as a share of the published
one's; chosen is the one whose greater loss is smallest.

The default grid has 64 samplers, of 460 passes together; with the 300 of the published one and of it without guidance,
a context costs 760 passes in the first stage and about 316 in the second. Writes table.md, results.csv and picture.png.
Started again, it goes on behind the last finished sampler.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    output_dir: Path = Path("runs/sampler-sweep")
    solvers: tuple[Literal["euler", "midpoint", "heun", "multistep"], ...] = ("euler", "midpoint", "heun", "multistep")
    steps: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    guidances: tuple[float, ...] = (0.0, 0.2)  # each above 0 doubles the cost
    grids: tuple[Literal["uniform", "edm"], ...] = ("uniform", "edm")
    passes: int = 12  # an image, at most; what costs more is left out
    contexts: int = 1024  # that report; beyond 520, more cells of the split are drawn
    choose_contexts: int = 512  # that choose
    choose_seed: int = 1  # of the contexts that choose, and of their noise
    seed: int = 0  # of those that report
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"  # of sampling; auto: bf16 if the hardware has it
    threads: int | None = None  # on a CPU; None takes all cores


PRESETS = {
    "default": Config(),
    "smoke": Config(
        output_dir=Path("runs/sampler-sweep-smoke"),
        solvers=("euler", "multistep"),
        steps=(2, 4),
        passes=4,
        contexts=12,
        choose_contexts=12,
    ),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from accelerate import Accelerator
from evaluate import make_rulers
from exam import Exam
from results import Marks, keep, kept
from sampler_report import Score, Standing, publish
from tqdm import tqdm

from algorithms.checkpoint import fingerprint
from algorithms.distances import frechet_resampled
from algorithms.evaluation import pairs_of
from algorithms.launch import start_accelerator
from algorithms.statistics import resamples
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import SAMPLINGS, CellFlux, Sampling

RESAMPLES = 2000  # of the contexts, for the intervals


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Samplers of one generator on the same held-out contexts; what an earlier call finished is read."""

    config: Config
    accelerator: Accelerator
    model: CellFlux
    split: Split
    contexts: int
    seed: int

    @cached_property
    def data(self) -> SyntheticCells:
        """The split, or a draw of it that is large enough."""
        data = SyntheticCells(self.split)
        if self.contexts <= pairs_of(data):
            return data
        compounds = len(data.perturbation[data.treated].unique())
        return SyntheticCells(self.split, treated=2 * math.ceil(self.contexts / compounds))

    @cached_property
    def draws(self) -> np.ndarray:
        return resamples(self.contexts, np.random.default_rng(self.seed), count=RESAMPLES)

    @cached_property
    def exam(self) -> Exam:
        rulers = make_rulers(self.data, device=self.accelerator.device)
        return Exam.of(self.data, rulers, contexts=self.contexts, seed=self.seed)

    @cached_property
    def told(self) -> dict[str, str]:
        """What decides the marks of a sampler."""
        told = {"generator": fingerprint(self.model), "precision": self.accelerator.mixed_precision}
        told |= {"split": self.split, "contexts": str(self.contexts), "seed": str(self.seed)}
        return told | {"resamples": str(RESAMPLES)}

    def real(self) -> Marks:
        """Of real cells in the contexts."""
        file = self.config.output_dir / self.split / "real.json"
        if (known := kept(file, self.told)) is None:
            keep(file, self.told, known := vars(self.exam.mark(self.exam.real)))
        return Marks(**known)

    def score(self, sampling: Sampling) -> Score:
        """Of one sampler."""
        name = f"{sampling.solver}-{sampling.steps}-{sampling.grid}-{sampling.guidance:g}.json"
        file, told = self.config.output_dir / self.split / name, self.told | {"sampling": str(sampling)}
        if (known := kept(file, told)) is None:
            self.model.sampling = sampling
            with self.accelerator.autocast():
                images = self.exam.draw(self.model)
            marks, own, real = self.exam.look(images)
            frechets = frechet_resampled(own, real, torch.from_numpy(self.draws))
            keep(file, told, known := {"marks": vars(marks), "frechets": frechets.tolist()})
        return Score(marks=Marks(**known["marks"]), frechets=np.array(known["frechets"]))

    def standings(self, samplings: Iterable[Sampling], published: Sampling) -> list[Standing]:
        """Each sampler against the published one, which comes first."""
        samplings = list(dict.fromkeys([published, *samplings]))
        scores = {}
        with tqdm(total=sum(s.passes for s in samplings), desc=self.split, unit="pass") as bar:
            for sampling in samplings:
                scores[sampling] = self.score(sampling)
                bar.update(sampling.passes)
        real = self.real()
        return [Standing.of(sampling, scores[sampling], scores[published], real, self.draws) for sampling in samplings]


def candidates(config: Config, own: Sampling) -> list[Sampling]:
    """All combinations of at most so many passes, with the noise of the generator's own sampler."""
    combinations = product(config.solvers, config.grids, config.guidances, config.steps)
    found = [
        replace(own, solver=solver, grid=grid, guidance=guidance, steps=steps)
        for solver, grid, guidance, steps in combinations
        if grid == "uniform" or steps > 1  # the EDM grid has two steps or more
    ]
    if not (affordable := [sampling for sampling in found if sampling.passes <= config.passes]):
        raise ValueError(f"none of {len(found)} samplers needs at most {config.passes} passes: give fewer --steps")
    return affordable


def choose(standings: Iterable[Standing], among: Iterable[Sampling]) -> Sampling:
    """The smallest greater loss of the two; equal to a tenth of a percent, the fewer passes."""
    among = set(among)
    rivals = [standing for standing in standings if standing.sampling in among]
    return min(rivals, key=lambda standing: (round(standing.worst, 3), standing.sampling.passes)).sampling


def main(config: Config) -> None:
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    if accelerator.num_processes > 1:
        raise ValueError(f"need one process, got {accelerator.num_processes}: start with python")
    model = CellFlux.from_pretrained(config.generator).to(accelerator.device)
    own = model.sampling
    published = replace(SAMPLINGS["cellflux"], noise_level=own.noise_level)
    bare, rivals = replace(published, guidance=0.0), candidates(config, own)
    first, second = (
        Stage(config=config, accelerator=accelerator, model=model, split=split, contexts=n, seed=seed)
        for split, n, seed in (
            ("validation", config.choose_contexts, config.choose_seed),
            ("test", config.contexts, config.seed),
        )
    )
    tried = first.standings([bare, own, *rivals], published)
    chosen = choose(tried, rivals)
    reported = second.standings([bare, own, chosen], published)
    roles: dict[Sampling, str] = {}
    names = ("published", "published without guidance", "own", "chosen")
    for sampling, role in zip((published, bare, own, chosen), names, strict=True):
        roles[sampling] = f"{roles[sampling]}, {role}" if sampling in roles else role
    real = {stage.split: stage.real() for stage in (first, second)}
    publish({"validation": tried, "test": reported}, real, roles, config.output_dir)


if __name__ == "__main__":
    main(CONFIG)
