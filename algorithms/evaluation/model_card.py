"""What the model card of a post-trained generator says, as metadata that `cellenv.model_card` shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from algorithms.config import PostTrainingConfig
from algorithms.evaluation.headline import shown_pairs
from algorithms.evaluation.report import lines, sections
from algorithms.evaluation.statistics import Figures
from algorithms.provenance import provenance
from rewards.suite.spec import RewardSpec


def describe_training(
    config: PostTrainingConfig, base: Mapping[str, Any], specs: Sequence[RewardSpec], settings: Mapping[str, object]
) -> dict[str, Any]:
    """How a generator was post-trained. It has a licence if its base has one and its cells allow the same.

    base: metadata of the generator that training started from. settings: flat, by name.
    """
    about: dict[str, Any] = {"base": config.generator, **provenance(config.data)}
    if base.get("license") != about.get("license"):
        about.pop("license", None)
    rewards = [{"name": spec.name, "label": spec.label, "weight": spec.weight} for spec in specs]
    return about | {"rewards": rewards, "training": dict(settings)}


def describe_evaluation(evaluation: Figures) -> dict[str, Any]:
    """A table of text: the mean of every row, and the paired differences with their intervals."""
    rows, pairs = evaluation["rows"], shown_pairs(evaluation)
    n = next(iter(rows.values()))["n_contexts"]
    return {
        "note": f"{n} held-out contexts. Judges are models that took no part in training. Differences are paired, with"
        " their 95 % bootstrap interval.",
        "columns": [*rows, *(pair.title for pair in pairs)],
        "lines": [
            [line.label, *(mean for mean, _ in line.cells), *(f"{d.text} {d.span}".strip() for d in line.differences)]
            for section in sections(evaluation)
            for line in lines(section, evaluation)
        ],
    }
