"""Contextual bandit: control cells and a compound are the context, the generated image is the action.

B batch, G group size, C, H, W image, D condition size.
"""

from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from cellenv.checks import check_ids, check_images, check_rows
from cellenv.data.cells import CellData
from cellenv.streams import seed_at


def repeat_groups(contexts: TensorDictBase, group_size: int) -> TensorDictBase:
    """Every context G times in a row, (n,) -> (n G,). Each copy gets its own `seed`, a hash of (seed, copy).

    The copies share one `group`: that of the context, or 0 .. n - 1 if the contexts have none.

    Raises:
        ValueError: group_size is below 1.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be >= 1, got {group_size}")
    seed = contexts["seed"]
    if "group" not in contexts:
        contexts = contexts.copy().set("group", torch.arange(len(seed), device=seed.device))
    seeds = [seed_at(value, copy) for value in seed.tolist() for copy in range(group_size)]
    repeated = contexts.repeat_interleave(group_size, dim=0)
    return repeated.set("seed", torch.tensor(seeds, dtype=torch.int64, device=seed.device))


class VirtualCellEnv(EnvBase):
    """An environment of one step: `reset` draws contexts, the action is an image, and rewards are transforms.

    Args:
        dataset: gives the contexts.
        batch_size: images per step, a multiple of group_size. None: as many as
            `reset(TensorDict(batch_size=[n]))` asks.
        group_size: G; each context is repeated G times in a row. The copies differ in `seed` and share
            `group`, a random 62-bit id, so that groups of several resets or workers stay apart.
        seed: of the contexts; the same seed gives the same contexts. None: a random one.
        device: of the contexts.

    `reset(td, set_state=True)` repeats the contexts in td exactly; `group` and `seed` are filled in if td has
    none.

    Raises:
        ValueError: group_size is below 1, or does not divide batch_size.
    """

    _supports_set_state = True

    def __init__(
        self,
        dataset: CellData,
        *,
        batch_size: int | tuple[int, ...] | torch.Size | None = None,
        group_size: int = 1,
        seed: int | None = None,
        device: torch.device | str | None = None,
    ):
        shape = torch.Size((batch_size,) if isinstance(batch_size, int) else batch_size or ())
        if group_size < 1 or (len(shape) > 0 and shape.numel() % group_size):
            raise ValueError(f"need group_size >= 1 and batch_size a multiple of it; got {group_size} and {batch_size}")
        super().__init__(batch_size=shape, device=device)
        self._batch_locked = len(shape) > 0
        self.dataset, self.group_size = dataset, group_size
        self.observation_spec = self._context_spec(shape)
        self.state_spec = self._context_spec(shape)  # for reset(..., set_state=True)
        self.action_spec = Bounded(-1, 1, (*shape, *dataset.size), dtype=torch.float32)
        self.full_reward_spec = Composite(shape=shape)
        self._set_seed(seed)

    def _context_spec(self, shape: torch.Size) -> Composite:
        data = self.dataset
        integer = Unbounded(shape, dtype=torch.int64)
        known = {"moa": Categorical(len(data.moas), shape)} if data.moas else {}
        return Composite(
            x0=Bounded(-1, 1, (*shape, *data.size), dtype=torch.float32),
            perturbation=Categorical(len(data.compounds), shape),
            condition=Unbounded((*shape, data.conditions.shape[1]), dtype=torch.float32),
            **known,
            plate=integer,
            group=integer.clone(),
            seed=integer.clone(),
            shape=shape,
        )

    def _set_seed(self, seed: int | None) -> None:
        self.rng = torch.Generator()
        if seed is None:
            self.rng.seed()
        else:
            self.rng.manual_seed(seed)

    def _reset(self, td: TensorDictBase | None, *, set_state: bool = False, **_: Any) -> TensorDictBase:
        shape = self.batch_size if td is None else td.batch_size
        contexts = self._given(td) if set_state else self._drawn(shape.numel())
        return contexts.reshape(shape) if self.device is None else contexts.reshape(shape).to(self.device)

    def _step(self, td: TensorDictBase) -> TensorDictBase:
        check_images(td["action"], self.dataset.size, "action")
        ended = torch.ones((*td.batch_size, 1), dtype=torch.bool, device=self.device)
        return td.select(*self.observation_spec.keys()).set("done", ended).set("terminated", ended.clone())

    def _drawn(self, n: int) -> TensorDictBase:
        """n / G new contexts, each G times; the seed of a context is the id of its group."""
        if n % self.group_size:
            raise ValueError(f"need a multiple of group_size {self.group_size} images; got {n}")
        contexts = self.dataset.draw_contexts(n // self.group_size, self.rng)
        return repeat_groups(contexts.set("group", contexts["seed"]), self.group_size)

    def _given(self, td: TensorDictBase | None) -> TensorDictBase:
        """The contexts of td, in one flat batch dimension."""
        needed = set(self.observation_spec.keys()) - {"group", "seed"}
        missing = needed - set(() if td is None else td.keys())
        if td is None or missing:
            raise ValueError(f"set_state=True needs a TensorDict with {sorted(needed)}; {sorted(missing)} are missing")
        contexts = td.select(*self.observation_spec.keys(), strict=False).reshape(-1)
        check_images(contexts["x0"], self.dataset.size, "x0")
        check_rows(contexts["condition"], (len(contexts), self.dataset.conditions.shape[1]), "condition")
        check_ids(contexts["perturbation"], self.dataset.compounds, "perturbation")
        if self.dataset.moas:
            check_ids(contexts["moa"], self.dataset.moas, "moa")
        if "group" not in contexts:
            contexts["group"] = torch.arange(len(contexts))
        if "seed" not in contexts:
            contexts["seed"] = torch.randint(2**62, (len(contexts),), generator=self.rng)
        return contexts
