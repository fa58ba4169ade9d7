"""Compare generators with their base and with real cells, on the same held-out contexts and the same noise.

    cellfluxrl evaluate --model rl=runs/nft/model --output-dir runs/nft
    cellfluxrl evaluate --model rl=runs/nft/model --output-dir runs/nft --unseen
    cellfluxrl evaluate --model rl=runs/nft/model --images theirs=DIR     # a folder as `cellfluxrl generate` writes
    cellfluxrl evaluate --model rl=runs/nft/model --reward sharpness=mylab.rewards:sharpness:0.5
    cellfluxrl evaluate --model rl=runs/nft/model --sampler base-8=base:steps=8 --sampler rl-8=rl:steps=8

--sampler adds a row that draws with a model's weights by another sampler, NAME=MODEL:SETTING=VALUE,... with settings of
steps, guidance, noise_level, solver (euler, heun, midpoint, multistep) and grid (uniform, edm); what is not named is as
MODEL draws. A row by the same sampler as a row of the base is compared with that one too: above, rl-8 with base-8.

Prints the table and writes evaluation.json and evaluation.html (with --unseen: evaluation_unseen.*). What each figure
means: docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction

from algorithms.config import DataConfig, EvalConfig, RewardConfig, check_models_of_data
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate
    from cellenv.generator import CellFlux


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which rows are compared, and on how much."""

    model: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=DIR of a generator; may be repeated
    images: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=DIR of generated images; may be repeated
    sampler: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=MODEL:steps=8,guidance=0.2; may be repeated
    base: str = "embedded"  # generator that the models started from: DIR, or the name of a shipped one
    output_dir: Path = Path("runs/evaluation")
    group_size: int = 4  # samples of each context, which differ by noise alone
    unseen: bool = False  # the compounds that no generator was trained on
    inception: Path | None = None  # torch-fidelity's Inception weights: adds FID and KID, at 0.3 s an image
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts, noise and bootstrap

    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    eval: EvalConfig = EvalConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(2, contexts=self.eval.contexts)  # distances need two
        check_at_least(1, batch_size=self.batch_size, group_size=self.group_size)
        check_models_of_data(self.data, self.reward, self.eval)


SMOKE = EvaluateConfig(output_dir=Path("runs/evaluation-smoke"), group_size=2, eval=EvalConfig(contexts=12))
PRESETS = {
    "default": EvaluateConfig(),
    "paper": EvaluateConfig(reward=RewardConfig(shaping="paper")),
    "smoke": SMOKE,
}


def named_folders(entries: Sequence[str], default: str = "") -> dict[str, str]:
    """{NAME: DIR} of NAME=DIR entries; a DIR alone gets the default name.

    Raises:
        ValueError: a name is missing, stands twice, or is `base` or `real`.
    """
    found = {}
    for entry in entries:
        name, equals, folder = entry.partition("=")
        if not equals or "/" in name:  # a folder alone, which may have "=" in it
            name, folder = default, entry
        found[name] = folder
    if len(found) < len(entries) or {"", "base", "real"} & found.keys():
        raise ValueError(f"need another NAME for each NAME=DIR, none of them base or real; got {', '.join(entries)}")
    return found


def load_generators(base: str, models: Sequence[str], samplers: Sequence[str] = ()) -> dict[str, CellFlux]:
    """Generators by row: "base", those of NAME=DIR entries, and their rows by other samplers.

    Raises:
        ValueError: an entry is invalid; see `named_folders` and `add_sampler_rows`.
    """
    from algorithms.evaluation.samplers import add_sampler_rows
    from cellenv.generator import CellFlux

    sources = {"base": base} | named_folders(models, "rl")
    generators = {name: CellFlux.from_pretrained(folder) for name, folder in sources.items()}
    return add_sampler_rows(generators, samplers)


def main(config: EvaluateConfig) -> None:
    """Draw and measure all rows, and write the evaluation."""
    from algorithms.build import build_judge, build_rewards, check_generators
    from algorithms.evaluation.comparison import Comparison, evaluate_models, held_out_cells
    from algorithms.evaluation.evaluator import build_evaluator
    from algorithms.evaluation.image_folder import ImageFolder
    from algorithms.inspection.cached import check_data
    from algorithms.launch import start_processes
    from algorithms.logs import flatten_config

    device = start_processes(timeout=config.distributed.timeout).device
    check_data(config.data, unseen=config.unseen, splits=("test",))
    images, trained = named_folders(config.images), named_folders(config.model, "rl")
    if both := images.keys() & {*trained, *(x.partition("=")[0] for x in config.sampler)}:
        raise ValueError(f"need another NAME for each row; {', '.join(sorted(both))} stand twice")
    generators = load_generators(config.base, config.model, config.sampler)
    models = {name: model.to(device) for name, model in generators.items()}
    data, contexts = held_out_cells(config.data, config.eval.contexts, unseen=config.unseen)
    folders = {name: ImageFolder.read(folder, data) for name, folder in images.items()}
    check_generators(data, *models.values())
    evaluator = build_evaluator(
        data,
        build_rewards(config.reward, device, data),
        judge=build_judge(config.eval, data),
        inception=config.inception,
        device=device,
    )
    settings = flatten_config({name: x for name, x in asdict(config).items() if name not in ("model", "images")})
    evaluate_models(
        models,
        data,
        config.output_dir,
        evaluator=evaluator,
        options=Comparison(
            contexts=contexts, group_size=config.group_size, batch_size=config.batch_size, seed=config.seed
        ),
        folders=folders,
        config={
            "preset": config.reward.shaping,
            **settings,
            "generators": str({"base": config.base} | trained),
            "folders": str(images),
        },
        name="evaluation_unseen" if config.unseen else "evaluation",
    )


def estimate(config: EvaluateConfig) -> Estimate:
    """Estimate the cost of drawing and scoring all images of all models."""
    from algorithms.estimate import estimate_evaluation

    generators = load_generators(config.base, config.model, config.sampler)
    return estimate_evaluation(config, list(generators.values()), config.eval.contexts * config.group_size)


if __name__ == "__main__":
    from algorithms.cli import run

    run("evaluate")
