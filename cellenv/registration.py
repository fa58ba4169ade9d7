"""Gymnasium ids: "cellenv/Select-v0" after `import cellenv`, "cellenv:cellenv/Select-v0" without it."""

from gymnasium import register

TASKS = {
    "cellenv/Select-v0": "cellenv.gym.select:Select",
    "cellenv/Steer-v0": "cellenv.gym.steer:Steer",
    "cellenv/Paint-v0": "cellenv.gym.paint:Paint",
}


def register_tasks() -> None:
    """Register every task with Gymnasium by entry point, so that its module is imported only by `make`."""
    for name, task in TASKS.items():
        register(
            name,
            entry_point="cellenv.gym.faces:TaskEnv",
            vector_entry_point="cellenv.gym.faces:TaskVectorEnv",
            kwargs={"task": task},
        )
