"""How a generator is updated, and how well it then does. Names load when first used, so that `--help` is quick."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.ema import EMA
    from algorithms.evaluation.comparison import evaluate_models
    from algorithms.evaluation.evaluator import build_evaluator
    from algorithms.evaluation.measurement import Evaluator
    from algorithms.evaluation.metrics import evaluate
    from algorithms.launch import start_accelerator
    from algorithms.losses import AWMLoss, FlowAWRLoss, GRPOLoss, NFTLoss, PPOLoss, RAMLoss, RFTLoss, RWRLoss
    from algorithms.renoise import Renoise
    from algorithms.rollouts import RolloutCollector
    from algorithms.sde import SDEPolicy, SDESampler
    from algorithms.selection import best_of_n
    from algorithms.train_config import OptimConfig, TrainConfig
    from algorithms.trainer import Algorithm, train

MODULES = {
    "AWMLoss": "losses",
    "Algorithm": "trainer",
    "EMA": "ema",
    "Evaluator": "evaluation.measurement",
    "FlowAWRLoss": "losses",
    "GRPOLoss": "losses",
    "NFTLoss": "losses",
    "PPOLoss": "losses",
    "RAMLoss": "losses",
    "RFTLoss": "losses",
    "RWRLoss": "losses",
    "Renoise": "renoise",
    "RolloutCollector": "rollouts",
    "SDEPolicy": "sde",
    "SDESampler": "sde",
    "OptimConfig": "train_config",
    "TrainConfig": "train_config",
    "best_of_n": "selection",
    "build_evaluator": "evaluation.evaluator",
    "evaluate": "evaluation.metrics",
    "evaluate_models": "evaluation.comparison",
    "start_accelerator": "launch",
    "train": "trainer",
}
__all__ = [
    "EMA",
    "AWMLoss",
    "Algorithm",
    "Evaluator",
    "FlowAWRLoss",
    "GRPOLoss",
    "NFTLoss",
    "OptimConfig",
    "PPOLoss",
    "RAMLoss",
    "RFTLoss",
    "RWRLoss",
    "Renoise",
    "RolloutCollector",
    "SDEPolicy",
    "SDESampler",
    "TrainConfig",
    "best_of_n",
    "build_evaluator",
    "evaluate",
    "evaluate_models",
    "start_accelerator",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in MODULES:
        raise AttributeError(f"module 'algorithms' has no attribute {name!r}")
    return getattr(import_module(f"algorithms.{MODULES[name]}"), name)
