import random
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest
import torch

from algorithms.cli import ALONE, COMMANDS, main
from algorithms.evaluation import generate
from cellenv.generator import Sampling
from rewards import WEIGHTS


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_names_the_presets_and_imports_no_torch(command):
    process = [sys.executable, "-X", "importtime", "-m", "algorithms.cli", *command, "--help"]
    done = subprocess.run(process, capture_output=True, text=True)
    assert done.returncode == 0
    presets = import_module(COMMANDS[command]).PRESETS
    assert f"--preset {{{','.join(presets)}}}" in " ".join(done.stdout.split())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tyro" in imported and "torch" not in imported


@pytest.mark.parametrize("module", COMMANDS.values())
def test_a_command_can_run_and_estimate(module):
    command = import_module(module)
    assert callable(command.main) and callable(command.estimate)


@pytest.mark.parametrize("words", [["brew"], ["trian", "nft"], ["best_of_n", "--help"]])
def test_unknown_command_lists_all_and_exits_with_2(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    out, error = capsys.readouterr()
    assert all(f"cellfluxrl {' '.join(command)} " in out for command in COMMANDS)
    assert "unknown command" in error and words[0] in error


@pytest.mark.parametrize("words", [["train"], ["train", "nftt"], ["train", "nftt", "--help"]])
def test_a_group_without_a_known_name_lists_its_own(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    out, _ = capsys.readouterr()
    names = ["awm", "base", "distil", "flowawr", "grpo", "nft", "ppo", "ram", "rft", "rwr"]
    assert [line.split()[2] for line in out.splitlines()[1:]] == names


@pytest.mark.parametrize("command", sorted(ALONE), ids=" ".join)
def test_what_processes_do_not_share_is_refused_under_a_launcher(monkeypatch, capsys, command):
    monkeypatch.setattr(import_module(COMMANDS[command]), "main", lambda config: pytest.fail("started"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert f"{' '.join(command)} works in one process, and 2 were started" in capsys.readouterr().err


def test_an_estimate_is_of_one_process(monkeypatch, capsys):
    monkeypatch.setattr(import_module(COMMANDS["train", "nft"]), "estimate", lambda config: pytest.fail("started"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "nft", "--dry-run"])
    out, error = capsys.readouterr()
    assert not out and "train nft --dry-run works in one process, and 2 were started: start it without" in error


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.strip() == version("cellfluxrl")


@pytest.mark.parametrize("words", [[], ["--help"], ["fit", "-h"]])
def test_help_of_a_group_is_no_error(words, capsys):
    main(words)
    out, error = capsys.readouterr()
    assert "cellfluxrl fit classifier" in out and not error
    assert ("cellfluxrl train nft" in out) == (words[:1] != ["fit"])


def test_dry_run_prints_the_resolved_config_and_an_estimate_and_leaves_no_run(save_base, tmp_path, capsys):
    base = save_base(Sampling(steps=2))
    flags = f"--learning-rate 1e-3 --iterations 5 --generator {base} --output-dir {tmp_path / 'run'}"
    terms = ("moa=2", *(f"{name}=0" for name in WEIGHTS if name != "moa"))  # nothing is segmented
    rewards = [flag for term in terms for flag in ("--reward", term)]
    main(["train", "nft", "--preset", "smoke", *flags.split(), *rewards, "--dry-run"])
    out = capsys.readouterr().out.splitlines()
    for line in ("optim.learning_rate = 0.001", "iterations = 5", f"reward.terms = {terms}", f"generator = {base}"):
        assert line in out
    rows = 8 * 6  # images, times of each
    rollouts = 8 * 2  # images, steps
    losses = rows * (1 + 2 + 1) + rows // 3  # theta forward and backward, old; ref on a third
    evaluation = 2 * 16 * 2 * 2  # models, contexts, samples, steps
    assert f"network function evaluations  {5 * (rollouts + losses) + evaluation:,}" in out
    assert not (tmp_path / "run").exists()


def test_the_seed_of_a_command_seeds_the_global_streams(monkeypatch):
    drawn = []
    monkeypatch.setattr(generate, "main", lambda config: drawn.append((torch.rand(()).item(), random.random())))
    for seed in (1, 1, 2):
        main(["generate", "--seed", str(seed), "--generator", "x"])
    assert drawn[0] == drawn[1] and not {*drawn[0]} & {*drawn[2]}
