"""The tasks under their names: `gymnasium.make("cellenv/Select-v0")`, or "cellenv:cellenv/Select-v0" unimported."""

from gymnasium import register

TASKS = {
    "cellenv/Select-v0": "cellenv.gym.select:Select",
    "cellenv/Steer-v0": "cellenv.gym.steer:Steer",
    "cellenv/Paint-v0": "cellenv.gym.paint:Paint",
}


def register_tasks() -> None:
    """Tell Gymnasium where each task is; nothing of it is imported before it is made."""
    for name, task in TASKS.items():
        register(
            name,
            entry_point="cellenv.gym.faces:TaskEnv",
            vector_entry_point="cellenv.gym.faces:TaskVectorEnv",
            kwargs={"task": task},
        )
