"""Estimate a post-training run from two small iterations of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from algorithms import checkpoint
from algorithms.estimate import Estimate, estimate_evaluation, peak_memory
from algorithms.evaluation.evaluate import EvaluateConfig
from algorithms.launch import start_accelerator
from algorithms.logs import read_log
from algorithms.memory import saved_activations, training_memory
from algorithms.nfe import count_nfe
from algorithms.recipes.post_training import Components, Config, build_components
from algorithms.trainer import Algorithm, train


def estimate_post_training(config: Config, build: Callable[[Components[Config]], Algorithm]) -> Estimate:
    """Time, network evaluations and memory of all iterations and the evaluation, without checkpoints and pictures.

    Two iterations with as many groups as fill one batch are trained in a temporary folder; the second one is timed, and
    its cost is scaled to the groups and iterations of the config. Networks are not compiled; a critic's warm-up counts
    as iterations like others.
    """
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision, threads=config.threads, other_processes=config.reward.processes
    )
    rollout = config.rollout
    groups = min(rollout.groups, -(-rollout.batch_size // rollout.group_size))
    with TemporaryDirectory() as folder:
        small = replace(
            config,
            output_dir=Path(folder),
            resume=False,
            compile=False,
            iterations=2,
            trackers=(),
            save_every=3,
            show_every=3,
            rollout=replace(rollout, groups=groups),
        )
        components = build_components(small, accelerator)
        algorithm = build(components)
        if algorithm.critic is not None:
            algorithm = replace(algorithm, critic=replace(algorithm.critic, warmup_iterations=0))
        networks = [model.network for model in components.models]
        with components.scorer, count_nfe(networks) as nfe, saved_activations(algorithm.loss) as saved:
            ema = train(accelerator, small, algorithm)
        state = checkpoint.load_to_continue(small.output_dir, small.iterations, small.optim.cooldown)
        memory = training_memory(
            algorithm.theta,
            algorithm.old,
            algorithm.frozen,
            ema=ema,
            optimizer=state["parts"]["optimizer"],
            activations=saved.most,
        )
        last = read_log(small.output_dir / "log.jsonl")[-1]
    scale = config.iterations * rollout.groups / groups
    evaluate = EvaluateConfig(data=config.data, reward=config.reward, eval=config.eval)
    images = config.eval.contexts * evaluate.group_size
    evaluation = estimate_evaluation(evaluate, [components.ref, components.theta], images)
    return Estimate(
        nfe=round(nfe.total / 2 * scale) + evaluation.nfe,
        seconds=last["time/total"] * scale + evaluation.seconds,
        memory=peak_memory(),
        training=memory,
    )
