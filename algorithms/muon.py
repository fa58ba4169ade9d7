"""Muon for weights of two or more axes and AdamW for the rest, behind one optimizer interface."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, extended to convolution filters: (out, in, k, k) is updated as a matrix (out, in k k).

    Weights of two or more axes move along their orthogonalised momentum (Jordan et al., 2024), scaled to the RMS of an
    AdamW step (arXiv:2502.16982, eq. 4), so that one learning rate serves both optimizers. Biases and norms use AdamW.
    Each parameter group has its own `lr`, which both follow.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
    ):
        super().__init__(params, {"lr": lr})
        groups = [group["params"] for group in self.param_groups]
        matrices = [[nn.Parameter(as_matrix(p)) for p in group if p.ndim >= 2] for group in groups]
        vectors = [[p for p in group if p.ndim < 2] for group in groups]
        self.weights = [p for group in groups for p in group if p.ndim >= 2]
        self.matrices = [matrix for group in matrices for matrix in group]
        self.muon = torch.optim.Muon(
            [{"params": group} for group in matrices], lr, weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW([{"params": group} for group in vectors], lr, betas, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are not supported
        """Update every parameter from its `grad`, with the learning rate of `param_groups`."""
        for matrix, weight in zip(self.matrices, self.weights, strict=True):
            matrix.data = as_matrix(weight)  # refreshed, since moving the model reallocates its weights
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in (self.muon, self.adamw):
            for its_group, group in zip(optimizer.param_groups, self.param_groups, strict=True):
                its_group["lr"] = group["lr"]
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


OPTIMIZERS = {"muon": Muon, "adamw": torch.optim.AdamW}
