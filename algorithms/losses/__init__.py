"""Losses that post-train a generator: a pure function each, and the LossModule that feeds it."""

from algorithms.losses.nft import NFTLoss

__all__ = ["NFTLoss"]
