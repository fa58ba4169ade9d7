"""Muon for the weights of a network of any kind, AdamW for its biases and norms: fewer steps to the same loss."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, which wants matrices, for filters too: (out, in, k, k) is stepped as (out, in k k).

    Weights of two axes or more move by their momentum made orthogonal (Jordan et al., 2024), scaled to the RMS of a
    step of AdamW (arXiv:2502.16982, eq. 4), so that one learning rate serves both; all others move by AdamW.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
    ):
        params = list(params)
        super().__init__(params, {"lr": lr})
        self.weights = [p for p in params if p.ndim >= 2]
        self.matrices = [nn.Parameter(as_matrix(p)) for p in self.weights]
        self.muon = torch.optim.Muon(self.matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW([p for p in params if p.ndim < 2], lr, betas, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step along `grad`, with the learning rate in `param_groups`."""
        for matrix, weight in zip(self.matrices, self.weights, strict=True):
            matrix.data = as_matrix(weight)  # the same memory, wherever the model has been moved to
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in (self.muon, self.adamw):
            optimizer.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The momenta of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict()`."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])


def as_matrix(weight: nn.Parameter) -> Tensor:
    """(out, ...) -> (out, the rest), of the same memory."""
    return weight.data.view(len(weight), -1)
