"""Muon for weights of two or more axes and AdamW for the rest, behind one optimizer interface."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of X, X X^T X and (X X^T)^2 X, from Jordan et al.
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon, in which a convolution filter (out, in, k, k) is a matrix (out, in k k).

    Weights of two or more axes move along their orthogonalised Nesterov momentum (Jordan et al., 2024), scaled to the
    RMS of an AdamW step (arXiv:2502.16982, eq. 4), so that one learning rate serves both optimizers. Biases and norms
    use AdamW. `torch.optim.Muon` takes no filters, and orthogonalises in bfloat16 whatever the hardware: on a CPU
    without it, that takes longer than the gradient of a small network.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        vectors = [{"params": [p for p in group["params"] if p.ndim < 2]} for group in self.param_groups]
        self.adamw = torch.optim.AdamW(vectors, lr, betas, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are not supported
        """Update every parameter from its `grad`, with the learning rate of its group."""
        for group, vectors in zip(self.param_groups, self.adamw.param_groups, strict=True):
            vectors["lr"] = group["lr"]
            for p in group["params"]:
                if p.ndim >= 2 and p.grad is not None:
                    self._move(p, group["lr"], group["weight_decay"], group["momentum"])
        self.adamw.step()

    def _move(self, p: Tensor, lr: float, weight_decay: float, momentum: float) -> None:
        """W <- (1 - lr weight_decay) W - 0.2 sqrt(max(out, in)) lr orthogonal(Nesterov momentum)."""
        gradient = p.grad
        assert gradient is not None
        if "momentum" not in self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(gradient)
        average = self.state[p]["momentum"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum).flatten(1)  # (out, in)
        update = orthogonalise(direction)
        if isinstance(p, DTensor) and isinstance(update, DTensor):  # a product may be sharded otherwise than factors
            update = update.redistribute(p.device_mesh, p.placements)
        p.mul_(1 - lr * weight_decay)
        p.sub_(0.2 * sqrt(max(direction.shape)) * lr * update.view_as(p))

    def state_dict(self) -> dict[str, Any]:
        """State of both optimizers."""
        return {"muon": super().state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """A matrix near U V^T of the singular value decomposition U S V^T, shaped as `matrix`, (n, m).

    Five Newton-Schulz iterations, whose singular values end between 0.7 and 1.2; in float32.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.float().T if len(matrix) > matrix.shape[1] else matrix.float()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if len(matrix) > matrix.shape[1] else x).to(matrix.dtype)


OPTIMIZERS = {"muon": Muon, "adamw": torch.optim.AdamW}
