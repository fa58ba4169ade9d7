"""Muon for weights of two or more axes and AdamW for the rest, behind one optimizer interface."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, extended to convolution filters: (out, in, k, k) is updated as a matrix (out, in k k).

    Weights of two or more axes move along their orthogonalised momentum (Jordan et al., 2024), scaled to the RMS of an
    AdamW step (arXiv:2502.16982, eq. 4), so that one learning rate serves both optimizers. Biases and norms use AdamW.
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
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are not supported
        """Update every parameter from its `grad`, with the learning rate of `param_groups`."""
        for matrix, weight in zip(self.matrices, self.weights, strict=True):
            matrix.data = as_matrix(weight)  # refreshed, since moving the model reallocates its weights
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in (self.muon, self.adamw):
            optimizer.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """State of both optimizers."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])


def as_matrix(weight: nn.Parameter) -> Tensor:
    """View (out, ...) as (out, product of the rest), sharing memory."""
    return weight.data.view(len(weight), -1)
