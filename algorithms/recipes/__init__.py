"""Recipes: a config, how its algorithm is built, and `main`. The keys are the names of `cellfluxrl train NAME`."""

ALGORITHMS = {
    "nft": "algorithms.recipes.nft",
    "grpo": "algorithms.recipes.grpo",
    "ppo": "algorithms.recipes.ppo",
    "flowawr": "algorithms.recipes.flowawr",
    "ram": "algorithms.recipes.ram",
    "awm": "algorithms.recipes.awm",
    "rwr": "algorithms.recipes.rwr",
    "rft": "algorithms.recipes.rft",
}
