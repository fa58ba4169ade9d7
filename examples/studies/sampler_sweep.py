"""How few network evaluations (NFE) an image are enough: solver x steps x guidance x grid, against the published 200.

    python -m examples.studies.sampler_sweep                                   # the embedded generator
    python -m examples.studies.sampler_sweep --generator runs/base/generator-007500 --guidances 0
    python -m examples.studies.sampler_sweep --preset smoke

Contexts of the validation split choose a sampler; those of the test split report it, beside the published one, the
published one without guidance, and the generator's own. All sample the same contexts from the same noise. A sampler
loses in total reward, as a share of the gap between the published one and real cells, and in Frechet distance, as a
share of the published one's; the choice minimizes the greater loss.

The default grid has 64 samplers, of 460 NFE together; with the 300 of the published one and of it without guidance, a
context costs 760 NFE in the first stage and about 316 in the second. Writes table.md, results.csv and picture.png. A
second call continues after the last finished sampler.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from algorithms.train_config import Precision
from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    output_dir: Path = Path("runs/sampler-sweep")
    solvers: tuple[Literal["euler", "midpoint", "heun", "multistep"], ...] = ("euler", "midpoint", "heun", "multistep")
    steps: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    guidances: tuple[float, ...] = (0.0, 0.2)  # each above 0 doubles the NFE
    grids: tuple[Literal["uniform", "edm"], ...] = ("uniform", "edm")
    max_nfe: int = 12  # an image; samplers that need more are left out
    contexts: int = 1024  # that report; beyond 520, more cells of the split are drawn
    choose_contexts: int = 512  # that choose
    choose_seed: int = 1  # of the contexts that choose, and of their noise
    seed: int = 0  # of those that report
    mixed_precision: Precision = "auto"  # of sampling; auto: the launcher's; if unset, bf16 where the hardware has it
    threads: int | None = None  # on a CPU; None takes all cores


PRESETS = {
    "default": SweepConfig(),
    "smoke": SweepConfig(
        output_dir=Path("runs/sampler-sweep-smoke"),
        solvers=("euler", "multistep"),
        steps=(2, 4),
        max_nfe=4,
        contexts=12,
        choose_contexts=12,
    ),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tqdm import tqdm

from algorithms.checkpoint import fingerprint
from algorithms.evaluation.distances import frechet_resampled
from algorithms.evaluation.evaluator import build_evaluator
from algorithms.evaluation.held_out import count_pairs
from algorithms.evaluation.periodic_eval import EvalResult, PeriodicEval
from algorithms.evaluation.statistics import bootstrap_counts
from algorithms.launch import start_accelerator
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import SAMPLINGS, CellFlux, Sampling
from examples.studies.cache import load_cached, save_cached
from examples.studies.sampler_report import SamplerComparison, SamplerScore, write_sampler_report

RESAMPLES = 2000  # of the contexts, for the intervals


@dataclass(frozen=True, kw_only=True)
class SweepStage:
    """Samplers of one generator on the same held-out contexts; finished ones are read."""

    config: SweepConfig
    accelerator: Accelerator
    model: CellFlux
    split: Split
    contexts: int
    seed: int

    @cached_property
    def data(self) -> SyntheticCells:
        """Cells of the split, more than usual if the contexts need them."""
        data = SyntheticCells(self.split)
        if self.contexts <= count_pairs(data):
            return data
        compounds = len(data.perturbation[data.treated].unique())
        return SyntheticCells(self.split, treated=2 * math.ceil(self.contexts / compounds))

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """Bootstrap resamples of the contexts, (K, n)."""
        return bootstrap_counts(self.contexts, np.random.default_rng(self.seed), count=RESAMPLES)

    @cached_property
    def periodic_eval(self) -> PeriodicEval:
        """Evaluation on the contexts of this stage."""
        evaluator = build_evaluator(self.data, device=self.accelerator.device)
        return PeriodicEval.create(self.data, evaluator, contexts=self.contexts, seed=self.seed)

    @cached_property
    def signature(self) -> dict[str, str]:
        """Settings that decide the score of a sampler."""
        return {
            "generator": fingerprint(self.model),
            "precision": self.accelerator.mixed_precision,
            "split": self.split,
            "contexts": str(self.contexts),
            "seed": str(self.seed),
            "resamples": str(RESAMPLES),
        }

    def real(self) -> EvalResult:
        """Evaluation of real cells in the contexts."""
        file = self.config.output_dir / self.split / "real.json"
        if (known := load_cached(file, self.signature)) is None:
            known = vars(self.periodic_eval.evaluate(self.periodic_eval.real))
            save_cached(file, self.signature, known)
        return EvalResult(**known)

    def score(self, sampling: Sampling) -> SamplerScore:
        """Evaluation of one sampler."""
        name = f"{sampling.solver}-{sampling.steps}-{sampling.grid}-{sampling.guidance:g}.json"
        file = self.config.output_dir / self.split / name
        signature = self.signature | {"sampling": str(sampling)}
        if (known := load_cached(file, signature)) is None:
            self.model.sampling = sampling
            with self.accelerator.autocast():
                images = self.periodic_eval.sample(self.model)
            result, own, real = self.periodic_eval.evaluate_with_features(images)
            frechets = frechet_resampled(own, real, torch.from_numpy(self.counts))
            known = {"result": vars(result), "frechets": frechets.tolist()}
            save_cached(file, signature, known)
        return SamplerScore(result=EvalResult(**known["result"]), frechets=np.array(known["frechets"]))

    def compare(self, samplings: Iterable[Sampling], published: Sampling) -> list[SamplerComparison]:
        """Each sampler against the published one, which comes first."""
        samplings = list(dict.fromkeys([published, *samplings]))
        scores = {}
        with tqdm(total=sum(s.nfe for s in samplings), desc=self.split, unit="NFE") as bar:
            for sampling in samplings:
                scores[sampling] = self.score(sampling)
                bar.update(sampling.nfe)
        real, reference = self.real(), scores[published]
        return [SamplerComparison.create(s, scores[s], reference, real, self.counts) for s in samplings]


def candidates(config: SweepConfig, own: Sampling) -> list[Sampling]:
    """All combinations within the NFE limit, with the noise level of the generator's own sampler.

    Raises:
        ValueError: no combination is within the limit.
    """
    combinations = product(config.solvers, config.grids, config.guidances, config.steps)
    found = [
        replace(own, solver=solver, grid=grid, guidance=guidance, steps=steps)
        for solver, grid, guidance, steps in combinations
        if grid == "uniform" or steps > 1  # the EDM grid has two steps or more
    ]
    affordable = [sampling for sampling in found if sampling.nfe <= config.max_nfe]
    if not affordable:
        raise ValueError(f"none of {len(found)} samplers needs at most {config.max_nfe} NFE: give fewer --steps")
    return affordable


def choose(comparisons: Iterable[SamplerComparison], among: Iterable[Sampling]) -> Sampling:
    """Sampler with the smallest worst loss; if equal to a tenth of a percent, the one of fewer NFE."""
    among = set(among)
    rivals = [comparison for comparison in comparisons if comparison.sampling in among]
    return min(rivals, key=lambda c: (round(c.worst_loss, 3), c.sampling.nfe)).sampling


def assign_roles(samplings: Iterable[tuple[str, Sampling]]) -> dict[Sampling, str]:
    """Roles of each sampler, joined where it has several."""
    roles: dict[Sampling, str] = {}
    for role, sampling in samplings:
        roles[sampling] = f"{roles[sampling]}, {role}" if sampling in roles else role
    return roles


def main(config: SweepConfig) -> None:
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    if accelerator.num_processes > 1:
        raise ValueError(f"need one process, got {accelerator.num_processes}: start with python")
    model = CellFlux.from_pretrained(config.generator).to(accelerator.device)
    own = model.sampling
    published = replace(SAMPLINGS["cellflux"], noise_level=own.noise_level)
    unguided = replace(published, guidance=0.0)
    rivals = candidates(config, own)
    validation, test = (
        SweepStage(config=config, accelerator=accelerator, model=model, split=split, contexts=n, seed=seed)
        for split, n, seed in (
            ("validation", config.choose_contexts, config.choose_seed),
            ("test", config.contexts, config.seed),
        )
    )
    tried = validation.compare([unguided, own, *rivals], published)
    chosen = choose(tried, rivals)
    reported = test.compare([unguided, own, chosen], published)
    roles = assign_roles(
        [("published", published), ("published without guidance", unguided), ("own", own), ("chosen", chosen)]
    )
    write_sampler_report(
        {"validation": tried, "test": reported},
        {stage.split: stage.real() for stage in (validation, test)},
        roles,
        config.output_dir,
    )


if __name__ == "__main__":
    main(CONFIG)
