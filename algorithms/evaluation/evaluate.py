"""Compare generators with their base and with real cells, on the same held-out contexts and the same noise.

    cellfluxrl evaluate --model rl=runs/nft/model --output-dir runs/nft
    cellfluxrl evaluate --model rl=runs/nft/model --output-dir runs/nft --unseen
    cellfluxrl evaluate --model rl=runs/nft/model --images theirs=DIR     # a folder as `cellfluxrl generate` writes
    cellfluxrl evaluate --model rl=runs/nft/model --reward sharpness=mylab.rewards:sharpness:0.5
    cellfluxrl evaluate --model rl=runs/nft/model --sampler base-8=base:steps=8 --sampler rl-8=rl:steps=8

--sampler adds a row that draws with a model's weights by another sampler, NAME=MODEL:SETTING=VALUE,... with settings of
steps, guidance (w), guidance_power (p of w t^p), guidance_from (a time in [0, 1)), noise_level, solver (euler, heun,
midpoint, multistep) and grid (uniform, edm); what is not named is as MODEL draws. A row by the same sampler as a row of
the base is compared with that one too: above, rl-8 with base-8.

Prints the table and writes evaluation.html, evaluation.json, and evaluation_cells.json with the values of every image
(with --unseen: evaluation_unseen*). What each figure means: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction

from algorithms.config import EvalConfig, RewardConfig
from algorithms.config_checks import check_at_least
from algorithms.evaluation.compared import ComparedConfig, load_compared, load_generators, named_folders

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ComparedConfig):
    """Which rows are compared, and on how much."""

    output_dir: Path = Path("runs/evaluation")
    images: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=DIR of generated images; may be repeated
    sampler: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=MODEL:steps=8,guidance=0.2; may be repeated
    group_size: int = 2  # samples of each context, which differ by noise alone; diversity needs two
    inception: Path | None = None  # torch-fidelity's Inception weights: adds FID and KID, at 0.3 s an image

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, group_size=self.group_size)


SMOKE = EvaluateConfig(output_dir=Path("runs/evaluation-smoke"), eval=EvalConfig(contexts=12))
PRESETS = {
    "default": EvaluateConfig(),
    "paper": EvaluateConfig(reward=RewardConfig(shaping="paper")),
    "smoke": SMOKE,
}


def main(config: EvaluateConfig) -> None:
    """Draw and measure all rows, and write the evaluation."""
    from algorithms.evaluation.comparison import Comparison, evaluate_models
    from algorithms.logs import flatten_config

    images, trained = named_folders(config.images), named_folders(config.model, "rl")
    if both := images.keys() & {*trained, *(x.partition("=")[0] for x in config.sampler)}:
        raise ValueError(f"need another NAME for each row; {', '.join(sorted(both))} stand twice")
    compared = load_compared(config, samplers=config.sampler, images=images, inception=config.inception)
    settings = flatten_config({name: x for name, x in asdict(config).items() if name not in ("model", "images")})
    evaluate_models(
        compared.models,
        compared.data,
        config.output_dir,
        evaluator=compared.evaluator,
        options=Comparison(
            contexts=compared.contexts,
            group_size=config.group_size,
            batch_size=config.batch_size,
            seed=config.seed,
            runs={name: Path(folder).parent for name, folder in trained.items()},
        ),
        folders=compared.folders,
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
