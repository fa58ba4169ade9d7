"""`main` and `estimate` of a post-training recipe, made of its `build`. Imports nothing heavy before one is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from algorithms.estimate import Estimate
    from algorithms.recipes.post_training import Components, Config
    from algorithms.trainer import Algorithm


def commands(
    build: Callable[[Components[Config]], Algorithm],
) -> tuple[Callable[[Config], None], Callable[[Config], Estimate]]:
    """(main, estimate) of the recipe that trains what `build` makes.

    main(config) trains and evaluates; estimate(config) gives the cost of the whole run from two small iterations.
    """

    def main(config: Config) -> None:
        from algorithms.recipes.post_training import post_train

        post_train(config, build)

    def estimate(config: Config) -> Estimate:
        from algorithms.recipes.iteration_cost import estimate_post_training

        return estimate_post_training(config, build)

    return main, estimate
