"""Configs that commands share, nested as the objects are: `data`, `reward`, `rollout`, `renoise`, `optim`, `eval`.

Each recipe adds its `loss`. Light to import, so that `--help` is quick; build.py makes the objects.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from tyro.conf import UseAppendAction, arg

from algorithms.config_checks import check_above, check_at_least, check_descent, check_optimizer_steps
from algorithms.data_config import DataConfig as DataConfig
from algorithms.data_config import FolderConfig as FolderConfig
from algorithms.train_config import DistributedConfig, OptimConfig, Precision, TrainConfig

Weighting = Literal["end-point", "linear", "velocity"]  # keys of `algorithms.losses.matching.TIME_WEIGHTS`
SEGMENTERS = ("embedded", "classical", "cellpose")


@dataclass(frozen=True, kw_only=True)
class NucleusConfig:
    """What finds nuclei."""

    segmenter: str = "embedded"  # embedded, classical, cellpose, or a path of weights for the embedded one
    nucleus_weights: str | None = None  # Cellpose's for nuclei: a path, or a name in its own folder

    def __post_init__(self) -> None:
        if self.segmenter not in SEGMENTERS and not Path(self.segmenter).exists():
            names = ", ".join(SEGMENTERS)
            raise ValueError(f"need --segmenter {names}, or a path of embedded weights; got {self.segmenter!r}")
        if self.segmenter != "cellpose" and self.nucleus_weights is not None:
            raise ValueError(f"weights are for --segmenter cellpose; {self.segmenter} takes none")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(NucleusConfig):
    """What finds nuclei and cells."""

    cell_weights: str | None = None  # Cellpose's for cells

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmenter != "cellpose" and self.cell_weights is not None:
            raise ValueError(f"weights are for --segmenter cellpose; {self.segmenter} takes none")


@dataclass(frozen=True, kw_only=True)
class RewardConfig(SegmenterConfig):
    """Which rewards score an image, and with which models; None is the embedded world's model."""

    # NAME=MODULE:FUNCTION:WEIGHT adds a reward, NAME=WEIGHT sets a weight, NAME=0 leaves one out; may be repeated
    terms: Annotated[tuple[str, ...], UseAppendAction, arg(aliases=("--reward",))] = ()
    classifier: Path | None = None  # weights of the rewarding classifier
    reference: Path | None = None  # statistics of real images, from `fit reference` with the same segmenter
    shaping: Literal["default", "paper"] = "default"  # how a z-score becomes a reward


@dataclass(frozen=True, kw_only=True)
class TrainingRewardConfig(RewardConfig):
    """The rewards of a training, and where they are computed."""

    orientations: Literal["all", "one"] = "all"  # of an image, over which its MoA is averaged; one: as in evaluations
    workers: int = 0  # of a training process, each with one thread; 0: it scores its images itself
    worker_device: str = "cpu"  # of the workers' networks
    timeout: float = 1800.0  # seconds that a worker may take for one reward of a batch
    on_failure: Literal["raise", "nan"] = "raise"  # if a reward of a batch fails: stop, or make it nan there, and warn
    ray: str | None = None  # the workers are actors of this Ray cluster, HOST:PORT or ray://...; local starts one

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0 or not self.timeout > 0:
            raise ValueError(f"need workers >= 0 and timeout > 0, got {self.workers} and {self.timeout}")
        of_workers = ("worker_device", "timeout", "ray")
        given = [name for name in of_workers if getattr(self, name) != getattr(TrainingRewardConfig, name)]
        if given and not self.workers:
            flags = ", ".join(f"--reward.{name.replace('_', '-')}" for name in given)
            raise ValueError(f"need --reward.workers N for {flags}: a training process that scores by itself has none")

    @property
    def processes(self) -> int:
        """Workers on this machine."""
        return self.workers if self.ray in (None, "local") else 0


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The evaluation on held-out cells."""

    contexts: int = 512  # fewer if there are not twice as many treated test images
    judge: Path | None = None  # weights of the held-out classifier; None: the embedded world's


PARENT = "parent"  # in place of a path: what the generator that training starts from was itself trained from


@dataclass(frozen=True, kw_only=True)
class TrainingEvalConfig(EvalConfig):
    """The evaluation of a training, and what is watched during it."""

    # generator of the report's row of this name; None: the one that training starts from; parent: the base of that one
    base: str | None = None
    stop_on_collapse: bool = False  # end the run at a sign of collapse, with the weights from before; else only warn


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """What an iteration draws."""

    groups: int = 12  # contexts an iteration, over all processes, equally many on each
    group_size: int = 12  # images of each context, at least 2
    batch_size: int = 48  # images at once on a process


@dataclass(frozen=True, kw_only=True)
class OldPolicyRolloutConfig(RolloutConfig):
    """Rollouts by a lagging copy of the weights: old <- d old + (1 - d) theta after iteration i."""

    decay_slope: float = 0.02  # d = min(slope i, most) after iteration i: on policy first; published: 0.001
    decay_most: float = 0.8  # largest d; published: 0.5. Slow old weights average over small iterations
    train_on: int | None = None  # images of each group that are trained on, half the best, half the worst; None: all


@dataclass(frozen=True, kw_only=True)
class SDERolloutConfig(RolloutConfig):
    """Rollouts with noise on some sampler steps, which gives each step a probability."""

    sde_window: tuple[int, int] = (0, 2)  # first noisy step, and the one after the last
    eta: float = 0.5  # noise of a step of length h: eta sqrt(h)


@dataclass(frozen=True, kw_only=True)
class RenoiseConfig:
    """How a finished image becomes training rows (x_t, t)."""

    times_per_sample: int = 2  # rows of each image
    coupling: Literal["independent", "group", "generating"] = "independent"  # source that re-noises an image
    times: Literal["uniform", "rollout"] = "uniform"  # on [0, t_max]; rollout: the sampler's own times
    t_max: float = 0.999  # below 1, where a velocity cannot be learned
    stratified: bool = False  # times of an image, and of an iteration, spread evenly instead of independently
    noise_per: Literal["group", "sample"] = "group"  # what has a source and times of its own


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What a loss learns from. A recipe adds its own settings."""

    # what is normalised inside groups: each reward before the weighted sum (GDPO), or the sum, as in the paper
    normalise: Literal["total", "rewards"] = "rewards"


@dataclass(frozen=True, kw_only=True)
class RenoisedLossConfig(LossConfig):
    """Settings of all losses on re-noised samples."""

    # of the pretraining loss on real pairs (DDRL), one beside each row, which theta then passes twice; 0 leaves it out
    pretraining_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MatchingLossConfig(RenoisedLossConfig):
    """Settings of `algorithms.losses.matching`."""

    kl_weight: float = 0.4  # of the penalty for leaving the base; published: 1e-4
    kl_share: float = 1.0  # of the rows, in (0, 1], on which it is estimated: fewer cost fewer passes of the base
    kl_weighting: Weighting = "linear"  # of its times; published: velocity


@dataclass(frozen=True, kw_only=True)
class WeightingConfig:
    """How times weigh in a loss; for those that take a `time_weight`."""

    weighting: Weighting = "end-point"  # what is squared: error of the predicted end point, of the velocity, or between


@dataclass(frozen=True, kw_only=True)
class PostTrainingConfig(TrainConfig):
    """What all post-training recipes share. A recipe has its own kind of `loss` and `rollout`."""

    iterations: int = 100
    generator: str = "embedded"  # base to start from: a name, a folder that save_pretrained wrote, or a published .pth
    control: Literal["none", "zero", "shuffled", "flipped"] = "none"  # replace the reward by one that must not help
    lora_rank: int = 0  # of adapters with alpha = 2 rank; 0 trains the weights themselves
    train_from_level: int = 0  # of the U-Net; 1 leaves the layers at full resolution, which paint texture, as they are
    mixed_precision: Precision = "auto"  # auto: the launcher's; if unset, bf16 where the hardware has it
    compile: bool = False  # the networks, with torch.compile: takes minutes at first and pays in long runs alone
    threads: int | None = None  # of a process on a CPU; None: OMP_NUM_THREADS, or the cores are shared
    trackers: tuple[str, ...] = ("tensorboard",)  # as Accelerate names them

    data: DataConfig = DataConfig()
    reward: TrainingRewardConfig = TrainingRewardConfig()
    rollout: RolloutConfig = RolloutConfig()
    optim: OptimConfig = OptimConfig(warmup_iterations=20, micro_batch_size=48)
    loss: LossConfig = LossConfig()
    eval: TrainingEvalConfig = TrainingEvalConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_models_of_data(self.data, self.reward, self.eval)
        rollout, optim = self.rollout, self.optim
        check_at_least(0, seed=self.seed, lora_rank=self.lora_rank, train_from_level=self.train_from_level)
        check_at_least(0, warmup_iterations=optim.warmup_iterations)
        check_at_least(1, iterations=self.iterations, save_every=self.save_every, show_every=self.show_every)
        check_at_least(1, groups=rollout.groups, batch_size=rollout.batch_size)
        check_at_least(1, epochs=optim.epochs, optimizer_steps=optim.optimizer_steps)
        check_at_least(1, micro_batch_size=optim.micro_batch_size)
        check_at_least(2, group_size=rollout.group_size, contexts=self.eval.contexts)  # distances need two contexts
        check_above(0, save_minutes=self.save_minutes)
        check_descent(optim)


@dataclass(frozen=True, kw_only=True)
class RenoisedConfig(PostTrainingConfig):
    """Post-training with a loss on re-noised samples."""

    optim: OptimConfig = OptimConfig(learning_rate=1e-3, warmup_iterations=10, cooldown=1 / 3, micro_batch_size=48)
    rollout: OldPolicyRolloutConfig = OldPolicyRolloutConfig()
    renoise: RenoiseConfig = RenoiseConfig()
    loss: RenoisedLossConfig = RenoisedLossConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        rollout, renoise = self.rollout, self.renoise
        if rollout.train_on is not None and not 2 <= rollout.train_on <= rollout.group_size:
            raise ValueError(f"train_on must be from 2 to group_size, {rollout.group_size}; got {rollout.train_on}")
        check_at_least(0, decay_slope=rollout.decay_slope, pretraining_weight=self.loss.pretraining_weight)
        if not 0 <= rollout.decay_most <= 1:
            raise ValueError(f"decay_most must be from 0 to 1, got {rollout.decay_most}")
        check_at_least(1, times_per_sample=renoise.times_per_sample)
        images = rollout.group_size if rollout.train_on is None else rollout.train_on
        check_optimizer_steps(self.optim.optimizer_steps, images * renoise.times_per_sample)
        if not 0 < renoise.t_max < 1:
            raise ValueError(f"t_max must be above 0 and below 1, got {renoise.t_max}")
        if renoise.times != "uniform" and renoise.t_max != RenoiseConfig.t_max:
            raise ValueError(f"--renoise.t-max bounds uniform times; got --renoise.times {renoise.times} too")


@dataclass(frozen=True, kw_only=True)
class SDEConfig(PostTrainingConfig):
    """Post-training with a likelihood-based loss on the noisy steps of the sampler."""

    rollout: SDERolloutConfig = SDERolloutConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        first, end = self.rollout.sde_window
        if first < end:  # other windows are refused by the sampler, which knows its steps
            check_optimizer_steps(self.optim.optimizer_steps, (end - first) * self.rollout.group_size)


RESUMABLE_FIELDS = (  # of post-training, may change when a run is resumed; threads and batch sizes round differently
    *("output_dir", "resume", "iterations", "trackers", "save_every", "save_minutes", "show_every", "mixed_precision"),
    *("eval.contexts", "eval.judge", "eval.base", "data.cache", "distributed.timeout"),
    *("threads", "rollout.batch_size", "optim.micro_batch_size"),
    *(f"reward.{name}" for name in ("workers", "worker_device", "timeout", "on_failure", "ray")),
)

AnyPostTraining = TypeVar("AnyPostTraining", bound=PostTrainingConfig)


def presets(default: AnyPostTraining) -> dict[str, AnyPostTraining]:
    """The default, `smoke` (two iterations and the evaluation) and `long`."""
    folder = default.output_dir
    smoke = replace(
        default,
        output_dir=folder.with_name(f"{folder.name}-smoke"),
        iterations=2,
        save_every=1,
        show_every=1,
        rollout=replace(default.rollout, groups=2, group_size=4),
        eval=replace(default.eval, contexts=16),
    )
    long = replace(default, output_dir=folder.with_name(f"{folder.name}-long"), iterations=300)
    return {"default": default, "smoke": smoke, "long": long}


def check_models_of_data(data: DataConfig, reward: RewardConfig, evaluation: EvalConfig) -> None:
    """Raise ValueError if own cells come without the models that score them; without MoAs these are fewer."""
    given = {"reference": reward.reference}
    if data.labelled:
        given = {"classifier": reward.classifier, "judge": evaluation.judge} | given
    missing = [f"--{name}" for name, model in given.items() if model is None]
    if data.path is not None and missing:
        raise ValueError(
            f"--data needs {', '.join(missing)} too: those of the embedded world do not measure other cells"
        )
