"""One optimizer step, refused where the gradient is not finite, and the rows to blame for it. B rows."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from algorithms.sharding import is_sharded, whole
from cellenv.weights_io import save_weights

LEAST_SCALE = 1.0  # of an fp16 loss; below it, gradients overflow that are not scaled up: 17 skipped steps from 2^16


class NonFiniteError(FloatingPointError):
    """A gradient is not finite. rows: those of this rank that make it so; there may be none."""

    def __init__(self, message: str, rows: Mapping[str, Tensor]):
        super().__init__(message)
        self.rows = rows

    def saved(self, folder: Path, step: int, rank: int) -> FloatingPointError:
        """The error to raise after writing the rows to the folder."""
        count = max(map(len, self.rows.values()), default=0)
        if not count:
            return FloatingPointError(f"step {step}: {self}; no row of this process makes it so by itself")
        file = folder / f"{step:06d}-{rank}.safetensors"
        save_weights(file, self.rows, {"step": step, "rank": rank})
        return FloatingPointError(f"step {step}: {self}; the {count} rows that make it so are in {file}")


def descend(
    accelerator: Accelerator, optimizer: AcceleratedOptimizer, parameters: Iterable[nn.Parameter], max_grad_norm: float
) -> Tensor:
    """Clip the gradient that is there and take a step; returns its norm before. All ranks see the same.

    In fp16, a step whose gradient overflows is skipped, and the loss is scaled down for the next.

    Raises:
        FloatingPointError: the gradient is not finite; in fp16, until no scale could help.
    """
    scaler = accelerator.scaler
    if scaler is None:
        norm: Tensor = whole(accelerator.clip_grad_norm_(parameters, max_grad_norm))
        if not norm.isfinite():
            raise FloatingPointError(f"the gradient is {norm.item()}: look for nan in images and rewards")
        optimizer.step()
        return norm
    accelerator.unscale_gradients(optimizer)  # Accelerate's clip_grad_norm_ would unscale all that were ever prepared
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    if optimizer.step_was_skipped and scaler.get_scale() < LEAST_SCALE:
        raise FloatingPointError(
            f"the gradient is {norm.item()}, and fp16 steps were skipped until the loss scale is {scaler.get_scale()}: "
            "look for nan in images and rewards, or use --mixed-precision bf16"
        )
    return norm


def offending_rows(loss: LossModule, rows: TensorDictBase, accelerator: Accelerator) -> dict[str, Tensor]:
    """Rows whose own loss has a gradient that is not finite, on this rank, with dotted names.

    Shards have the mean gradient of all ranks; there, rows are blamed whose loss is not finite.
    """
    offends = torch.zeros(len(rows), dtype=torch.bool)
    for i in range(len(rows)):
        loss.zero_grad(set_to_none=True)
        with accelerator.autocast():
            out = loss(rows[i : i + 1])
        total = sum(out[key] for key in loss.out_keys if key.startswith("loss_"))
        total.backward()
        finite = [total] if is_sharded(loss) else [p.grad for p in loss.parameters() if p.grad is not None]
        offends[i] = not all(value.isfinite().all() for value in finite)
    loss.zero_grad(set_to_none=True)
    return dict(rows[offends.to(rows.device)].detach().flatten_keys(".").items())
