"""What the search of each algorithm tries, on validation contexts: `compare --tune NAME`. Light to import."""

from collections.abc import Mapping

from examples.studies.comparison_config import AlgorithmName

Settings = Mapping[str, Mapping[str, object]]  # by name, as options of a candidate
STEADY = {"optim.cooldown": 0.0}
SLOW = {"optim.learning_rate": 3e-4, **STEADY}
FALLING = {"optim.learning_rate": 1e-3, "optim.cooldown": 1 / 3}

REGRESSION: Settings = {  # on the better images alone
    "default": {},
    "kl=0.4": {"loss.kl_weight": 0.4},
    "kl=1": {"loss.kl_weight": 1.0},
    "lr=3e-4,steady,kl=0.1": {**SLOW, "loss.kl_weight": 0.1},
    "lr=3e-4,steady,kl=0.4": {**SLOW, "loss.kl_weight": 0.4},
    "lr=3e-4,steady,kl=1": {**SLOW, "loss.kl_weight": 1.0},
    "lr=1e-4,steady,kl=0.4": {**SLOW, "optim.learning_rate": 1e-4, "loss.kl_weight": 0.4},
}

# `default` is the default of the recipe, the best of the search on validation contexts, with 5 iterations of warm-up.
SEARCHES: Mapping[AlgorithmName, Settings] = {
    "nft": {
        "default": {},
        "lr=3e-4": {"optim.learning_rate": 3e-4},
        "lr=3e-3": {"optim.learning_rate": 3e-3},
        "steady": STEADY,
        "beta=1": {"loss.beta": 1.0},
        "kl=0.1": {"loss.kl_weight": 0.1},
        "kl=1": {"loss.kl_weight": 1.0},
        "coupling=group": {"renoise.coupling": "group"},
    },
    "grpo": {
        "default": {},
        "kl=0.1": {"loss.kl_weight": 0.1},
        "kl=0.2": {"loss.kl_weight": 0.2},
        "kl=0.4": {"loss.kl_weight": 0.4},
        "lr=1e-3,falling": FALLING,
        "lr=1e-3,falling,kl=0.1": {**FALLING, "loss.kl_weight": 0.1},
        "lr=1e-3,falling,kl=0.4": {**FALLING, "loss.kl_weight": 0.4},
        "lr=3e-3,falling,kl=0.4": {**FALLING, "optim.learning_rate": 3e-3, "loss.kl_weight": 0.4},
    },
    "ppo": {
        "default": {},
        "kl=0.03": {"loss.kl_weight": 0.03},
        "kl=0.1": {"loss.kl_weight": 0.1},
        "kl=0.2": {"loss.kl_weight": 0.2},
        "lr=1e-4,kl=0.1": {"optim.learning_rate": 1e-4, "loss.kl_weight": 0.1},
        "lr=1e-4,kl=0.03": {"optim.learning_rate": 1e-4, "loss.kl_weight": 0.03},
        "lr=1e-3,falling": FALLING,
        "epochs=1": {"optim.epochs": 1},
    },
    "flowawr": {
        "default": {},
        "steady": STEADY,
        "steady,kl=1": {**STEADY, "loss.kl_weight": 1.0},
        "kl=1": {"loss.kl_weight": 1.0},
        "lr=3e-4,steady": SLOW,
        "lr=3e-4,steady,kl=0.1": {**SLOW, "loss.kl_weight": 0.1},
        "lr=3e-4,steady,kl=1": {**SLOW, "loss.kl_weight": 1.0},
        "lr=3e-4,steady,coupling=group": {**SLOW, "renoise.coupling": "group"},
    },
    "ram": {
        "default": {},
        "c=1": {"loss.c": 1.0},
        "c=0.3": {"loss.c": 0.3},
        "lr=1e-3,c=1": {"optim.learning_rate": 1e-3, "loss.c": 1.0},
        "lr=1e-3,c=0.3": {"optim.learning_rate": 1e-3, "loss.c": 0.3},
        "lr=1e-3,falling": FALLING,
        "lr=1e-3,falling,c=1": {**FALLING, "loss.c": 1.0},
        "lr=1e-3,falling,c=0.3": {**FALLING, "loss.c": 0.3},
    },
    "awm": {
        "default": {},
        "kl=1": {"loss.kl_weight": 1.0},
        "kl=4": {"loss.kl_weight": 4.0},
        "kl=1,clip=0.1": {"loss.kl_weight": 1.0, "loss.clip_epsilon": 0.1},
        "lr=3e-4,steady": SLOW,
        "lr=3e-4,steady,kl=0.1": {**SLOW, "loss.kl_weight": 0.1},
        "lr=3e-4,steady,kl=1": {**SLOW, "loss.kl_weight": 1.0},
        "lr=3e-4,steady,clip=0.1": {**SLOW, "loss.clip_epsilon": 0.1},
    },
    "rwr": {
        **REGRESSION,
        "kl=1,tau=0.2": {"loss.kl_weight": 1.0, "loss.temperature": 0.2},
        "lr=3e-4,steady,kl=0.4,tau=0.2": {**SLOW, "loss.kl_weight": 0.4, "loss.temperature": 0.2},
    },
    "rft": {
        **REGRESSION,
        "kl=1,keep=1": {"loss.kl_weight": 1.0, "loss.keep": 1},
        "lr=3e-4,steady,kl=0.4,keep=1": {**SLOW, "loss.kl_weight": 0.4, "loss.keep": 1},
    },
}
