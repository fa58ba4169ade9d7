"""The benchmark: three contextual bandits for Gymnasium, on the embedded world or your own data.

Described in docs/benchmark.md.
"""

from cellenv.gym.faces import TaskEnv, TaskVectorEnv
from cellenv.gym.paint import Paint
from cellenv.gym.score import Scale, evaluate, fixed_contexts
from cellenv.gym.select import Select
from cellenv.gym.steer import Steer
from cellenv.gym.task import Task
from cellenv.gym.world import World

__all__ = [
    "Paint",
    "Scale",
    "Select",
    "Steer",
    "Task",
    "TaskEnv",
    "TaskVectorEnv",
    "World",
    "evaluate",
    "fixed_contexts",
]
