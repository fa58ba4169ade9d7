"""What every post-training script can be told; a script adds the fields of its own loss. Light to import."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from options import Scoring

COUNTS = "iterations groups optimizer_steps chunk micro_batch save_every show_every contexts".split()


@dataclass(frozen=True, kw_only=True)
class Settings(Scoring):
    output_dir: Path
    resume: bool = False  # go on from the newest checkpoint in output_dir
    generator: str = "embedded"  # what to start from: a name, or a folder that save_pretrained wrote
    control: Literal["none", "zero", "shuffled", "flipped"] = "none"  # learn from what must not help

    iterations: int = 160
    groups: int = 12  # contexts an iteration, over all processes, as many on each
    group_size: int = 12  # images of each context, at least 2

    lora_rank: int = 0  # of the adapters (alpha = 2 rank); 0 trains all weights
    learning_rate: float = 3e-4  # of AdamW
    warm_up: int = 20  # iterations; the first steps of AdamW are large, and what they break comes back slowly
    weight_decay: float = 0.0  # towards zero, not towards the base
    max_grad_norm: float = 1.0
    optimizer_steps: int = 1  # an iteration
    ema_decay: float = 0.999  # of the average of the weights, which is what is evaluated

    chunk: int = 48  # images at once on a process, in rollouts
    micro_batch: int = 48  # rows at once on a process, in training
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"  # auto: as told, else bf16 if the hardware has it
    threads: int | None = None  # of a process on a CPU; None shares the cores
    trackers: tuple[str, ...] = ("tensorboard",)  # as Accelerate names them
    save_every: int = 10  # iterations
    show_every: int = 10  # iterations between pictures
    contexts: int = 256  # of the evaluation; fewer if a folder has not twice as many treated test images
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"group_size": 2, "lora_rank": 0, "warm_up": 0} | dict.fromkeys(COUNTS, 1)
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class RenoiseSettings(Settings):
    """Of the losses that add noise to finished images again."""

    times_per_sample: int = 2  # rows that each image is trained on
    coupling: Literal["independent", "group", "generating"] = "independent"  # which source re-noises an image
    times: Literal["uniform", "rollout"] = "uniform"  # at which times; rollout: those of the sampler
    noise_per: Literal["group", "sample"] = "group"  # what has a source and times of its own
    kl_weight: float = 1e-4  # pull to the base
    decay_slope: float = 0.8  # the old weights keep min(slope i, most) of themselves after iteration i; slow ones
    decay_most: float = 0.8  # average over iterations, which these small ones need (published: 0.001, 0.5)


@dataclass(frozen=True, kw_only=True)
class ChainSettings(Settings):
    """Of the losses that see the sampler as a chain of noisy steps."""

    optimizer_steps: int = 1  # an iteration; only later ones meet the clip
    window: tuple[int, int] = (0, 2)  # the first noisy step of the sampler and the one after the last
    eta: float = 0.5  # noise of a step of length h: eta sqrt(h)
    clip: float = 5e-3  # of the ratio of probabilities, whose logarithms are means over pixels; see `GRPOLoss`


AnySettings = TypeVar("AnySettings", bound=Settings)


def presets(default: AnySettings) -> dict[str, AnySettings]:
    """The default; two iterations with the evaluation, to see that all runs; and a long run."""
    folder = default.output_dir
    small = {"iterations": 2, "groups": 2, "group_size": 4, "save_every": 1, "show_every": 1, "contexts": 16}
    return {
        "default": default,
        "smoke": replace(default, output_dir=folder.with_name(f"{folder.name}-smoke"), **small),
        "long": replace(default, output_dir=folder.with_name(f"{folder.name}-long"), iterations=480),
    }
