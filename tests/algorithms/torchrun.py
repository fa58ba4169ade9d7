"""Start a module on several processes of this machine."""

import os
import subprocess
import sys

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}


def torchrun(processes, module, folder, *args):
    """Run a module on so many processes in a folder; returns the finished launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", f"{processes}"]
    command = [*launcher, "-m", module, *args]
    return subprocess.run(
        command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
