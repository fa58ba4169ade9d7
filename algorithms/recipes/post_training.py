"""What all post-training recipes share: models, rewarded environment, loop, and the evaluation at the end."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from accelerate import Accelerator
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.objectives import LossModule

from algorithms import controls
from algorithms.advantages import RewardFn, normalised_rewards, total_reward
from algorithms.build import (
    RewardSuite,
    build_base,
    build_cells,
    build_judge,
    build_rewards,
    build_scorer,
    check_generators,
)
from algorithms.checkpoint import fingerprint
from algorithms.collapse import CollapseMonitor
from algorithms.compilation import compile_networks
from algorithms.config import RESUMABLE_FIELDS, PostTrainingConfig, RenoisedConfig, SDEConfig
from algorithms.evaluation.comparison import Comparison, evaluate_models, held_out_cells
from algorithms.evaluation.evaluator import build_evaluator
from algorithms.evaluation.held_out import split_pairs
from algorithms.evaluation.measurement import Evaluator
from algorithms.evaluation.model_card import describe_evaluation, describe_training
from algorithms.inspection.cached import check_data
from algorithms.launch import start_accelerator
from algorithms.logs import Log, finish_trackers, flatten_config, mean_by_name, mean_time_per_phase, read_log
from algorithms.lora import merge_lora
from algorithms.losses.matching import MatchingLoss
from algorithms.losses.pretraining import PretrainingLoss
from algorithms.old_policy import old_policy_decay
from algorithms.processes import from_main
from algorithms.recipes.base import PairConfig
from algorithms.recipes.real_pairs import AddRealPairs
from algorithms.recipes.samples import sample_renderer
from algorithms.renoise import Coupling, Renoise, generating_coupling, group_coupling, independent_coupling
from algorithms.resume_settings import resume_settings
from algorithms.rollouts import RolloutCollector, groups_of_rank
from algorithms.run_folder import run_folder
from algorithms.sde import SDESampler
from algorithms.sharding import whole_copier
from algorithms.trained_weights import choose_trained_weights
from algorithms.trainer import Algorithm, train
from algorithms.training_times import TimeQuantile, grid_time, uniform_time
from algorithms.workers.scorer import Scorer
from cellenv.data.cells import CellData
from cellenv.env import VirtualCellEnv
from cellenv.generator import GRIDS, CellFlux, GeneratorPolicy
from cellenv.streams import rng_at

ROWS = {"none": "rl", "zero": "zero-reward", "shuffled": "shuffled-reward", "flipped": "flipped-reward"}
ADAPTER_STREAM = 2**31 - 2  # of the seed; no rollout uses it

Config = TypeVar("Config", bound=PostTrainingConfig)
Config_co = TypeVar("Config_co", bound=PostTrainingConfig, covariant=True)
BuildBatch = Callable[[TensorDictBase, int], TensorDictBase]


@dataclass(frozen=True, kw_only=True)
class Components(Generic[Config_co]):
    """What an algorithm is built from. theta, old and ref start equal and share no memory."""

    config: Config_co
    accelerator: Accelerator
    data: CellData
    theta: CellFlux
    old: CellFlux
    ref: CellFlux

    @cached_property
    def rewards(self) -> RewardSuite:
        """The rewards and their models, loaded once."""
        return build_rewards(self.config.reward, self.accelerator.device, self.data)

    @cached_property
    def scorer(self) -> Scorer:
        """What scores the images of rollouts; a context manager, which ends workers."""
        return build_scorer(self.config.reward, self.rewards, self.data.channels, self.accelerator.device)

    @property
    def models(self) -> tuple[CellFlux, CellFlux, CellFlux]:
        """theta, old and ref."""
        return self.theta, self.old, self.ref

    def collector(self, policy: TensorDictModuleBase | None = None) -> RolloutCollector:
        """Contexts, images by the policy (None: the old weights), rewards."""
        config, device = self.config, self.accelerator.device
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        return RolloutCollector(
            env=VirtualCellEnv(self.data),
            scorer=self.scorer,
            policy=GeneratorPolicy(self.old) if policy is None else policy,
            data=self.data,
            groups=groups_of_rank(config.rollout.groups, rank, ranks),
            group_size=config.rollout.group_size,
            seed=config.seed,
            batch_size=config.rollout.batch_size,
            device=device,
            autocast=self.accelerator.autocast,
        )

    @property
    def signal_weights(self) -> dict[str, float]:
        """Weights of the rewards that are normalised each by itself; empty if the total reward is normalised."""
        by_itself = self.config.loss.normalise == "rewards"
        return {spec.name: spec.signal_weight for spec in self.rewards.specs} if by_itself else {}

    def reward_fn(self, learned: RewardFn | None = None) -> RewardFn:
        """What is learned from, or a control in its place.

        learned: None is the sum of rewards normalised in their groups, or the total reward, as the config says.
        """
        if learned is None:
            weights, gather = self.signal_weights, self.accelerator.gather
            learned = partial(normalised_rewards, weights=weights, gather=gather) if weights else total_reward
        choices: dict[str, RewardFn] = {
            "none": learned,
            "zero": partial(controls.zero_reward, reward_fn=learned),
            "shuffled": partial(controls.shuffled_reward, seed=self.config.seed, reward_fn=learned),
            "flipped": partial(controls.flipped_reward, reward_fn=learned),
        }
        return choices[self.config.control]

    def renoised_algorithm(
        self: "Components[RenoisedConfig]", matching: MatchingLoss, build_batch: BuildBatch | None = None
    ) -> Algorithm:
        """The loss on what the old weights drew. build_batch: from rollout to rows; None re-noises the images."""
        config, rollout = self.config, self.config.rollout
        loss: LossModule = matching
        build_batch = self.renoise() if build_batch is None else build_batch
        if weight := config.loss.pretraining_weight:
            # every pair has a condition, since a loss asks theta with one
            loss = PretrainingLoss(matching, weight=weight)
            build_batch = AddRealPairs(
                build_batch=build_batch,
                data=self.data,
                pairs=PairConfig(noise_level=self.ref.noise_level, condition_dropout=0.0),
                seed=config.seed,
                rank=self.accelerator.process_index,
                ranks=self.accelerator.num_processes,
            )
        return Algorithm(
            loss=loss,
            collect=self.collector(),
            build_batch=build_batch,
            theta=self.theta,
            old=self.old,
            old_decay=partial(old_policy_decay, slope=rollout.decay_slope, most=rollout.decay_most),
            frozen=[self.ref],
        )

    def renoise(self: "Components[RenoisedConfig]") -> Renoise:
        """From a rollout to rows for a loss on re-noised samples."""
        config, old = self.config.renoise, self.old
        couplings: dict[str, Coupling] = {
            "independent": partial(independent_coupling, data=self.data, noise_level=old.noise_level),
            "group": partial(group_coupling, noise_level=old.noise_level),
            "generating": generating_coupling,
        }
        times: dict[str, TimeQuantile] = {
            "uniform": partial(uniform_time, t_max=config.t_max),
            "rollout": partial(grid_time, times=GRIDS[old.grid](old.steps)),
        }
        return Renoise(
            coupling=couplings[config.coupling],
            times=times[config.times],
            stratified=config.stratified,
            times_per_sample=config.times_per_sample,
            noise_per=config.noise_per,
            train_on=self.config.rollout.train_on,
            reward_fn=self.reward_fn(),
            seed=self.config.seed,
            gather=self.accelerator.gather,
        )

    def sde_sampler(self: "Components[SDEConfig]") -> SDESampler:
        """The sampler with noise on the steps that the config names."""
        rollout = self.config.rollout
        return SDESampler.from_generator(self.theta, sde_window=rollout.sde_window, eta=rollout.eta)


def post_train(config: Config, build: Callable[[Components[Config]], Algorithm]) -> None:
    """Start Accelerate, train what `build` makes, save the model, evaluate it beside its base and real cells."""
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
        other_processes=config.reward.processes,
        timeout=config.distributed.timeout,
        may_shard=True,
    )
    accelerator.print(f"mixed precision: {accelerator.mixed_precision}")
    if (groups := config.rollout.groups) % (ranks := accelerator.num_processes):
        accelerator.print(f"{groups} groups become more, equally many on each of {ranks} processes")
    check_data(config.data)
    test, contexts = evaluation_contexts(config)
    components = build_components(config, accelerator)
    judge = build_judge(config.eval, test)
    evaluator = build_evaluator(test, components.rewards, judge=judge, device=accelerator.device)
    algorithm = build(components)
    if (first := algorithm.first_update) >= config.iterations:
        raise ValueError(f"need more iterations than the critic's warm-up, {first}; got {config.iterations}")
    other_base = build_base(config.eval, components.data, components.ref)
    with run_folder(config.output_dir, resume=config.resume):
        train_and_evaluate(components, algorithm, evaluator, test, contexts, other_base)


def train_and_evaluate(
    components: Components[Any],
    algorithm: Algorithm,
    evaluator: Evaluator,
    test: CellData,
    contexts: int,
    other_base: CellFlux | None,
) -> None:
    """Train, save the model, and evaluate it on so many contexts of the test cells, beside another base if there is."""
    config, accelerator = components.config, components.accelerator
    settings: dict[str, object] = {**flatten_config(asdict(config))}
    accelerator.init_trackers("cellfluxrl", config=settings)
    monitor = CollapseMonitor(stop=config.eval.stop_on_collapse)
    copy_base, copy_trained = whole_copier(components.ref), whole_copier(components.theta)
    with components.scorer:
        ema = train(
            accelerator,
            config,
            algorithm,
            monitor=monitor,
            render_samples=sample_renderer(components.data, components.ref, components.theta, seed=config.seed),
            settings=resume_settings(config, RESUMABLE_FIELDS, components.data, accelerator.mixed_precision),
        )
    with ema.swapped(components.theta):
        trained = copy_trained()
    if config.lora_rank:
        merge_lora(trained.network)
    trained.metadata = describe_training(config, components.ref.metadata, components.rewards.specs, settings)
    start = copy_base()
    trained.metadata["base_weights"] = fingerprint(start)
    if accelerator.is_main_process:
        trained.save_pretrained(config.output_dir / "model")
    log = from_main(partial(read_log, config.output_dir / "log.jsonl"), "read log.jsonl")
    seconds = mean_time_per_phase(log)
    accelerator.print("seconds an iteration: " + ", ".join(f"{name} {s:.2f}" for name, s in seconds.items()))
    signal = learning_signal(log) if config.control == "none" else {}
    base = (other_base or start).to(accelerator.device)
    models = {"base": base, ROWS[config.control]: trained}  # copies are neither compiled nor sharded
    options = Comparison(contexts=contexts, runs={ROWS[config.control]: config.output_dir})
    seed = {"training seed": str(config.seed)}  # "seed" is that of the evaluation
    about = {"preset": config.reward.shaping, **signal, **monitor.summary(), **settings, **seed}
    evaluation = evaluate_models(models, test, config.output_dir, evaluator=evaluator, options=options, config=about)
    trained.metadata["evaluation"] = describe_evaluation(evaluation)
    if accelerator.is_main_process:
        trained.save_pretrained(config.output_dir / "model")  # again, with a card that shows the figures
    finish_trackers(accelerator)


def learning_signal(log: Log) -> dict[str, str]:
    """What the report says of the shares that rewards had in what was learned from; nothing if there are none."""
    named = ", ".join(f"{name} {x:.0%}" for name, x in mean_by_name(log, "signal_share/").items())
    return {"shares of the learning signal": named} if named else {}


def evaluation_contexts(config: PostTrainingConfig) -> tuple[CellData, int]:
    """The test split, and how many contexts the evaluation draws of it: for own cells fewer, if it has not as many.

    Raises:
        ValueError: the embedded world has fewer contexts than the config asks for.
    """
    test, available = held_out_cells(config.data, config.eval.contexts)
    contexts = config.eval.contexts if config.data.path is None else available
    split_pairs(test.perturbation[test.treated], contexts, rng_at(config.seed))
    return test, contexts


def build_components(config: Config, accelerator: Accelerator, data: CellData | None = None) -> Components[Config]:
    """Training cells (None: those of the config) and three copies of the base, checked to fit each other.

    What learns samples without guidance, as its losses see it.
    """
    data = build_cells(config.data, "train") if data is None else data
    ref = CellFlux.from_pretrained(config.generator)
    theta = copy.deepcopy(ref)
    theta.guidance, theta.metadata = 0.0, {}
    rng = rng_at(config.seed, ADAPTER_STREAM)
    choose_trained_weights(theta.network, from_level=config.train_from_level, lora_rank=config.lora_rank, rng=rng)
    check_generators(data, ref)
    old = copy.deepcopy(theta)
    if config.compile:
        compile_networks([model.network for model in (theta, old, ref)], accelerator.device)
    return Components(config=config, accelerator=accelerator, data=data, theta=theta, old=old, ref=ref)
