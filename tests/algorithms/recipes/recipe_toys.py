"""Short runs of a recipe, and what every one must satisfy."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from algorithms.command_line import parse
from cellenv.generator import CellFlux

USUAL = "--preset smoke --threads 1 --mixed-precision no --learning-rate 1e-2 --show-every 9 --trackers"


@dataclass
class Runner:
    """Runs a recipe from flags, as the command line does, and reads what it left."""

    recipe: ModuleType
    base: Path  # folder of the generator that it starts from
    folder: Path  # of its runs
    terms: Sequence[str]  # flags of the rewards
    evaluated: list[tuple[Any, ...]]  # what each run gave to the evaluation

    def config(self, name: str, flags: str = ""):
        """The smoke preset on the tiny generator, with more flags; the output folder is called `name`."""
        where = ["--generator", str(self.base), "--output-dir", str(self.folder / name)]
        return parse(self.recipe.PRESETS, None, [*where, *self.terms, *USUAL.split(), *flags.split()]).config

    def run(self, name: str, flags: str = "") -> torch.Tensor:
        """Train; return all weights of the saved model, flattened."""
        self.recipe.main(self.config(name, flags))
        return weights(self.folder / name / "model")

    def log(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in CellFlux.from_pretrained(folder).state_dict().values()])


def check_training(runner: Runner, loss: str, flags: str = "") -> None:
    """It trains, equals a run that was stopped and resumed, and hands base and trained model to the evaluation."""
    straight = runner.run("straight", f"--iterations 2 {flags}")
    runner.run("stopped", f"--iterations 1 {flags}")
    resumed = runner.run("stopped", f"--iterations 2 --resume {flags}")
    assert torch.equal(straight, resumed) and not torch.equal(straight, weights(runner.base))
    assert [list(models) for models, *_ in runner.evaluated] == 3 * [["base", "rl"]]
    base, trained = runner.evaluated[0][0].values()
    assert trained.sampling == base.sampling == CellFlux.from_pretrained(runner.base).sampling  # not the noisy sampler
    log = runner.log("straight")
    assert len(log) == 2 and all(loss in line and line["grad_norm"] > 0 for line in log)


def check_flags(runner: Runner, flags: Sequence[str], usual: str = "--iterations 1 --optimizer-steps 2") -> None:
    """Each of these flags changes the weights that are learned."""
    reference = runner.run("usual", usual)
    ignored = [flag for flag in flags if torch.equal(reference, runner.run("other", f"{usual} {flag}"))]
    assert ignored == []


def moves_without_reward(runner: Runner) -> bool:
    """Whether an iteration changes the weights when no image is rewarded."""
    return not torch.equal(runner.run("zero", "--control zero --iterations 1"), weights(runner.base))


def check_ratio(runner: Runner, flags: str = "") -> None:
    """Before the first update the ratio of probabilities is 1, in low precision too. flags: for one optimizer step."""
    runner.run("first", f"--iterations 1 --micro-batch-size 16 --mixed-precision bf16 {flags}")
    (line,) = runner.log("first")
    assert line["max_ratio"] == 1
