"""Losses that post-train a generator: a pure function each, and the LossModule that feeds it."""

from algorithms.losses.awm import AWMLoss
from algorithms.losses.grpo import GRPOLoss
from algorithms.losses.nft import NFTLoss
from algorithms.losses.ppo import PPOLoss
from algorithms.losses.rft import RFTLoss
from algorithms.losses.rwr import RWRLoss

__all__ = ["AWMLoss", "GRPOLoss", "NFTLoss", "PPOLoss", "RFTLoss", "RWRLoss"]
