import json
import os
import subprocess
import sys

import gymnasium
import pytest

from cellenv.registration import TASKS
from tests.cellenv.toy_bandit import toy_world

CODE = """
import json, sys, gymnasium
import cellenv
lazy = "cellenv.gym" not in sys.modules
try:
    gymnasium.make("cellenv:cellenv/Steer-v0", observation="no such")
except ValueError as error:
    lazy = lazy and "no such" in str(error) and "rewards" not in sys.modules
from tests.cellenv.toy_bandit import toy_world
env = gymnasium.make("cellenv:cellenv/Steer-v0", world=toy_world())
seen, info = env.reset(seed=11)
print(json.dumps([lazy, {k: v.tolist() for k, v in seen.items()}, env.step([0.5, -0.5, 0.25, 1.0, 0.0, -1.0])[1]]))
"""


@pytest.mark.parametrize("name", TASKS)
def test_ids_make_the_task_of_their_name(name):
    env = gymnasium.make(name, world=toy_world())
    assert type(env.unwrapped.task).__name__ == name.removeprefix("cellenv/").removesuffix("-v0")


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")
def test_another_process_imports_lazily_and_repeats_an_episode_by_its_seed(request):
    """`import cellenv` imports no task, and `make` no rewards before they are needed."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ, cwd=request.config.rootpath, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lazy, seen, reward = json.loads(done.stdout.splitlines()[-1])
    env = gymnasium.make("cellenv/Steer-v0", world=toy_world())
    here, _ = env.reset(seed=11)
    assert lazy and seen == {k: v.tolist() for k, v in here.items()}
    assert reward == pytest.approx(env.step([0.5, -0.5, 0.25, 1.0, 0.0, -1.0])[1], abs=1e-6)
