"""Compare all algorithms at equal cost: same base, contexts, rewards and number of network evaluations (NFE).

    python -m examples.studies.compare                     # all algorithms, three seeds
    python -m examples.studies.compare --algorithms nft grpo --seeds 1 2 3 4 5
    python -m examples.studies.compare --tune grpo --budget 50000 --points 1    # its search
    python -m examples.studies.compare --preset smoke

NFE counts images through the network: a backward pass counts as two, and frozen weights count too. Along a run the EMA
weights are evaluated on held-out contexts. Writes results.csv (a line for each algorithm, seed and point), table.md,
picture.png, and the model and log of each run. A second call continues after the last finished run; when all are
finished it only prints.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script
from examples.studies.comparison_config import ALGORITHM_NAMES, AlgorithmName, Candidate, ComparisonConfig


@dataclass(frozen=True, kw_only=True)
class CompareConfig(ComparisonConfig):
    output_dir: Path = Path("runs/compare")
    algorithms: tuple[AlgorithmName, ...] = ALGORITHM_NAMES
    seeds: tuple[int, ...] = (1, 2, 3)  # 0 chose the defaults of `train nft`
    tune: AlgorithmName | None = None  # instead: try the settings of one algorithm, two seeds, on validation contexts


PRESETS = {
    "default": CompareConfig(),
    "smoke": CompareConfig(
        output_dir=Path("runs/compare-smoke"), budget=500, points=1, contexts=12, images=8, group_size=4, seeds=(0,)
    ),
}

TUNING_SEEDS = (100, 101)  # of training contexts and noise; the comparison has others
MOST_FRECHET = 1.1  # times the base's: a setting beyond it is not chosen, whatever its total

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from dataclasses import replace

from algorithms.evaluation.statistics import nan_mean
from examples.studies.comparison_report import sample_efficiency, write_report
from examples.studies.equal_cost import run_all
from examples.studies.results import Results, load_csv
from examples.studies.searches import SEARCHES


def tune(config: CompareConfig, name: AlgorithmName) -> None:
    """Run all settings of an algorithm and report the best."""
    folder = config.output_dir / f"tune-{name}"
    candidates = [Candidate(name=key, algorithm=name, options=options) for key, options in SEARCHES[name].items()]
    results = run_all(replace(config, output_dir=folder), candidates, TUNING_SEEDS, split="validation")
    notes = [f"of {name} the best setting is {best_setting(results)}; the comparison uses the default"]
    curves = load_csv(folder / "results.csv", "setting")
    write_report(results, curves, folder, label="setting", baseline="default", notes=notes)


def best_setting(results: Results) -> str:
    """That of the highest total whose Frechet distance is at most MOST_FRECHET times the base's; "none" without one."""
    total = {name: float(nan_mean(results.final(name, "total"))) for name in results.names()}
    frechet = {name: nan_mean([run.points[-1].result.figure("frechet") for run in results.of(name)]) for name in total}
    near = [name for name in total if frechet[name] <= MOST_FRECHET * results.base.figure("frechet")]
    return max(near, key=total.__getitem__, default="none")


def compare(config: CompareConfig) -> None:
    """Run all algorithms with their defaults, which the searches chose."""
    candidates = [Candidate(name=name, algorithm=name) for name in config.algorithms]
    results = run_all(config, candidates, config.seeds, split="test", label="algorithm")
    curves = load_csv(config.output_dir / "results.csv", "algorithm")
    notes = [sample_efficiency(results, curves, "nft", name) for name in curves if "nft" in curves and name != "nft"]
    notes += [f"{name}: the default, chosen before {', '.join([*SEARCHES[name]][1:])}" for name in config.algorithms]
    write_report(results, curves, config.output_dir, label="algorithm", baseline="nft", notes=notes)


def main(config: CompareConfig) -> None:
    if config.tune is None:
        compare(config)
    else:
        tune(config, config.tune)


if __name__ == "__main__":
    main(CONFIG)
