"""Post-training losses: for each, a pure function and the LossModule that calls it."""

from algorithms.losses.awm import AWMLoss
from algorithms.losses.distillation import DistillationLoss
from algorithms.losses.flowawr import FlowAWRLoss
from algorithms.losses.grpo import GRPOLoss
from algorithms.losses.nft import NFTLoss
from algorithms.losses.ppo import PPOLoss
from algorithms.losses.ram import RAMLoss
from algorithms.losses.rft import RFTLoss
from algorithms.losses.rwr import RWRLoss

__all__ = [
    "AWMLoss",
    "DistillationLoss",
    "FlowAWRLoss",
    "GRPOLoss",
    "NFTLoss",
    "PPOLoss",
    "RAMLoss",
    "RFTLoss",
    "RWRLoss",
]
