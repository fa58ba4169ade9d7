"""Start a module as the launcher's files say, as far as a CPU goes."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.algorithms.torchrun import ENVIRONMENT

FOLDER = Path(__file__).parents[2] / "accelerate_configs"


def command_of(file: Path) -> list[str]:
    """Words of the command in the first line."""
    return shlex.split(file.read_text(encoding="utf-8").splitlines()[0].removeprefix("#"))


def launched_environment(name: str, flags: str) -> dict[str, str]:
    """Variables of FSDP that a process finds which was started as the file's command says, with more flags."""
    words = command_of(FOLDER / f"{name}.yaml")
    args = launch_command_parser().parse_args([*words[2 : words.index("-m")], *flags.split(), "-m", "module"])
    args.config_file = str(FOLDER / f"{name}.yaml")
    args, _, _ = _validate_launch_command(args)
    return {name: value for name, value in prepare_multi_gpu_env(args).items() if "FSDP" in name}


def launch(name: str, flags: str, module: str, *args: str) -> subprocess.Popen[str]:
    """Start a module as the file's command does, with more flags for the launcher."""
    words = command_of(FOLDER / f"{name}.yaml")
    words = [*words[2 : words.index("-m")], *flags.split(), "-m", module, *args]
    command = [sys.executable, "-m", "accelerate.commands.launch", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=FOLDER.parent, env=os.environ | ENVIRONMENT, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
