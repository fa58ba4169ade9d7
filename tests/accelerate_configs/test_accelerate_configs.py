"""The launcher's files: their first line is the command, and it starts what it says, as far as a CPU goes."""

import socket

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from tests.accelerate_configs.launcher import FOLDER, command_of, launch

FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_first_line_launches_a_recipe_with_this_file(file):
    program, subcommand, *words = command_of(file)
    args = launch_command_parser().parse_args(words)
    assert (program, subcommand) == ("accelerate", "launch") and args.config_file == f"accelerate_configs/{file.name}"
    assert args.module and args.training_script == "algorithms.recipes.nft"
    config = load_config_from_file(str(file))  # refuses keys that it does not know
    assert (config.num_processes if args.num_processes is None else args.num_processes) >= 1


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_with_a_disk_each_resume_as_one_run(tmp_path):
    """The main process reads its checkpoint for both; without one, both say so and none waits."""
    where = f"--num_processes 2 --main_process_ip 127.0.0.1 --main_process_port {free_port()}"
    nodes = [
        launch("multi_node", f"{where} --machine_rank {node}", "tests.algorithms.nodes_toys", str(tmp_path))
        for node in (0, 1)
    ]
    for node in nodes:
        output, _ = node.communicate(timeout=600)
        assert node.returncode == 0, output[-3000:]
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in first["straight"].items():
        assert all(torch.equal(value, rank[run][name]) for rank in (first, second) for run in ("straight", "resumed"))
    assert first["error"] == second["error"] and "no checkpoint to resume" in first["error"]
    assert "several nodes need a folder that all of them share" in first["error"]
    written = [len(list((tmp_path / f"node-{node}" / "stopped").rglob("*.pt"))) for node in (0, 1)]
    assert sorted(written) == [0, 2]
