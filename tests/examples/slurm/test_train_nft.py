"""The batch script with a Slurm that is played by shell scripts: it starts, is preempted, is queued again, resumes."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "slurm" / "train_nft.sbatch"
TOOLS = {
    "scontrol": 'if [ "$1" = requeue ]; then echo "requeue $2" >> calls; else echo host-7; echo host-8; fi',
    # the second of two tasks on a node
    "srun": 'echo "$1" >> calls; shift; SLURM_PROCID=1 SLURM_LOCALID=1 exec "$@"',
    "python": 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT" >> calls\n'
    'echo "$@" >> calls; exit "$EXIT"',
}


@pytest.fixture
def run(tmp_path):
    """Return a function from the trainer's exit code to the script's, and to what was called in this run."""
    for name, lines in TOOLS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def script(code: int) -> tuple[int, list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        slurm = {"SLURM_JOB_ID": "20042", "SLURM_JOB_NODELIST": "host-[7-8]", "SLURM_NTASKS": "4"}
        env = os.environ | slurm | {"SLURM_NTASKS_PER_NODE": "2", "EXIT": f"{code}"}
        env["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(["bash", SCRIPT, "--seed", "3"], cwd=tmp_path, env=env, timeout=60)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return script


def test_every_task_is_a_rank_and_an_end_stays_an_end(run):
    code, calls = run(0)
    arguments = "-m algorithms.recipes.nft --output-dir runs/nft --mixed-precision bf16 --seed 3"
    assert (code, calls) == (0, ["--kill-on-bad-exit=1", "1 1 4 2 host-7 20042", arguments])


def test_a_preempted_job_is_queued_again_and_resumes(run, tmp_path):
    code, calls = run(143)
    assert code == 143 and calls[-1] == "requeue 20042" and "--resume" not in calls[-2]
    (tmp_path / "runs/nft/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/nft/checkpoints/000003.pt").touch()
    code, calls = run(0)
    assert code == 0 and calls[-1].endswith("--seed 3 --resume")


def test_a_job_that_failed_is_not_queued_again(run):
    code, calls = run(1)
    assert code == 1 and not any("requeue" in call for call in calls)
