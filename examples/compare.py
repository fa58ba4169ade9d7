"""Compare all algorithms at equal cost: same base, contexts and reward, and one budget of network passes.

    python examples/compare.py                              # six algorithms, three seeds, at most five minutes a run
    python examples/compare.py --algorithms nft grpo --seeds 1 2 3 4 5
    python examples/compare.py --tune grpo --budget 50000 --points 1 --contexts 256    # its SEARCHES, on other contexts
    python examples/compare.py --preset smoke

A pass is one image once through the network; backward counts two, and the passes of frozen weights count too. Along a
run the averaged weights are examined on held-out contexts. Writes results.csv (a line for each algorithm, seed and
point), table.md, picture.png, and of each run its model and log. Started again, it goes on behind the last finished
run; when all are finished it only prints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from command_line import parse
from plans import NAMES, Candidate, Name, Plan


@dataclass(frozen=True, kw_only=True)
class Config(Plan):
    output_dir: Path = Path("runs/compare")
    algorithms: tuple[Name, ...] = NAMES
    seeds: tuple[int, ...] = (1, 2, 3)  # 0 chose the defaults of train_nft.py
    tune: Name | None = None  # instead: try the settings of one algorithm, with one seed, on validation contexts


PRESETS = {
    "default": Config(),
    "smoke": Config(
        output_dir=Path("runs/compare-smoke"), budget=300, points=1, contexts=12, images=8, group_size=4, seeds=(0,)
    ),
}

TUNING_SEED = 100  # of training contexts and noise; the comparison has others


@dataclass(frozen=True, kw_only=True)
class Search:
    """At most eight settings by name, as options of the script, and the one that the comparison takes."""

    settings: Mapping[str, Mapping[str, object]]
    chosen: str = "default"


USUAL = {"default": {}, "lr=1e-3": {"learning_rate": 1e-3}}
CHAIN = USUAL | {"lr=1e-4": {"learning_rate": 1e-4}, "lr=3e-5": {"learning_rate": 3e-5}}
PULLED = USUAL | {"kl=0.4": {"kl_weight": 0.4}}

# The winner has the highest total at the end of the budget, on validation contexts: docs/comparison.md has the figures.
SEARCHES: dict[Name, Search] = {
    "nft": Search(
        settings=USUAL | {"beta=0.1": {"beta": 0.1}, "coupling=group": {"coupling": "group"}}, chosen="beta=0.1"
    ),
    "grpo": Search(settings=CHAIN | {"steps=2": {"optimizer_steps": 2}}),
    "ppo": Search(settings=CHAIN | {"group_size=2": {"group_size": 2}}),  # more contexts, for the critic
    "awm": Search(settings=PULLED | {"clip=0.1": {"clip": 0.1}}),
    "rwr": Search(settings=PULLED | {"tau=0.2": {"temperature": 0.2}}, chosen="kl=0.4"),
    "rft": Search(settings=PULLED | {"keep=1": {"keep": 1}}, chosen="kl=0.4"),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from dataclasses import replace

from equal_cost import run_all
from results import load_csv
from standings import lead, publish

from algorithms.statistics import nan_mean


def tune(config: Config, name: Name) -> None:
    """Try the settings of an algorithm and say which is best."""
    folder, search = config.output_dir / f"tune-{name}", SEARCHES[name]
    tried = [Candidate(name=key, algorithm=name, options=options) for key, options in search.settings.items()]
    results = run_all(replace(config, output_dir=folder), tried, [TUNING_SEED], split="validation")
    best = max(results.names(), key=lambda key: nan_mean(results.last(key, "total")))
    notes = [f"of {name} the best setting is {best}; the comparison takes {search.chosen}"]
    publish(results, load_csv(folder / "results.csv", "setting"), folder, label="setting", usual="default", notes=notes)


def compare(config: Config) -> None:
    """Run all algorithms with the settings that were chosen for them."""
    searches = {name: SEARCHES[name] for name in config.algorithms}
    rivals = [
        Candidate(name=name, algorithm=name, options=search.settings[search.chosen])
        for name, search in searches.items()
    ]
    results = run_all(config, rivals, config.seeds, split="test", label="algorithm")
    seeds = load_csv(config.output_dir / "results.csv", "algorithm")
    notes = [lead(results, seeds, "nft", name) for name in seeds if "nft" in seeds and name != "nft"]
    notes += [
        f"{name} takes its setting {search.chosen}, of {', '.join(search.settings)}"
        for name, search in searches.items()
    ]
    publish(results, seeds, config.output_dir, label="algorithm", usual="nft", notes=notes)


def main(config: Config) -> None:
    if config.tune is None:
        compare(config)
    else:
        tune(config, config.tune)


if __name__ == "__main__":
    main(CONFIG)
