"""Weights in shards on two processes train, save and resume as whole weights on one."""

import json
import shutil

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import nn

from algorithms import checkpoint
from algorithms.cli import run
from algorithms.launch import start_accelerator
from algorithms.sharding import sharded_layers, whole_copier
from cellenv.generator import CellFlux, Sampling
from tests.accelerate_configs.launcher import launch
from tests.algorithms.sharding_toys import ppo, recipe
from tests.conftest import save_tiny

LAST = "checkpoints/000002.pt"


def tensors(state, prefix=""):
    """All tensors of nested state by dotted names, as float64."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from tensors(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value.double()


def difference(one, two):
    """|two - one| / |one| of all tensors together, whose names and shapes must be equal."""
    one, two = dict(tensors(one)), dict(tensors(two))
    assert one.keys() == two.keys()
    apart = [(two[name] - value).flatten() for name, value in one.items()]
    return (torch.cat(apart).norm() / torch.cat([value.flatten() for value in one.values()]).norm()).item()


def test_layers_are_those_of_the_launchers_file(fsdp2):
    assert sharded_layers() == {"UNet", "EmbedSequential", "Critic"}


def test_whole_checkpoints_travel_in_the_memory_of_hosts(fsdp2, monkeypatch):
    """By gloo, with which Accelerate joins the processes beside NCCL; through NCCL alone they would fill the cards."""
    backends = []
    monkeypatch.setattr(PartialState, "_shared_state", {})
    monkeypatch.setattr(PartialState, "_prepare_backend", lambda *_: ("nccl", DistributedType.MULTI_GPU))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: backends.append(backend) or 1 / 0)
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ZeroDivisionError):  # before NCCL looks for a GPU
        PartialState()
    assert backends == ["cuda:nccl,cpu:gloo"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VERSION", "1", "FSDP of version 1 is not supported, version 2 is: launch with accelerate_configs/fsdp2.yaml"),
        ("OFFLOAD_PARAMS", "true", "offload_params and activation_checkpointing are not supported"),
        ("ACTIVATION_CHECKPOINTING", "true", "offload_params and activation_checkpointing are not supported"),
        ("RESHARD_AFTER_FORWARD", "false", "FSDP needs reshard_after_forward, and the names"),
        ("AUTO_WRAP_POLICY", "NO_WRAP", "FSDP needs reshard_after_forward, and the names"),
    ],
)
def test_a_user_who_asks_for_other_shards_gets_a_sentence(fsdp2, monkeypatch, capsys, variable, value, message):
    monkeypatch.setenv(f"FSDP_{variable}", value)
    with pytest.raises(SystemExit) as stopped:
        run("train", "nft", args=["--preset", "smoke"])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_whole_copy_keeps_its_weights_when_the_model_moves_on():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    copied = whole_copier(model)()
    nn.init.zeros_(model.weight)
    assert torch.equal(copied.weight, before)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder of what two processes did that were launched with fsdp2.yaml."""
    folder = tmp_path_factory.mktemp("two")
    save_tiny(folder / "base", Sampling(steps=2, noise_level=0.5))
    (folder / "mine.py").write_text("def brightness(images):\n    return images.flatten(1).mean(1)\n")
    process = launch("fsdp2", "--num_processes 2 --main_process_port 0", "tests.algorithms.sharding_toys", str(folder))
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, output[-3000:]
    return folder


@pytest.mark.slow  # starts two processes
class TestTwoProcesses:
    """Theta, old, reference, EMA, optimizer and critic in shards."""

    def test_they_shard(self, two):
        ranks = [torch.load(two / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
        whole = sum(value.nbytes for value in CellFlux.from_pretrained(two / "base").network.parameters())
        assert all(rank["sharded"] for rank in ranks)
        assert sum(rank["bytes"] for rank in ranks) == 3 * whole  # theta, old and reference, once in all
        assert min(rank["bytes"] for rank in ranks) > 1.4 * whole

    @pytest.mark.parametrize(("name", "flags"), [("straight", ""), ("lora", "--lora-rank 2")])
    def test_a_recipe_trains_as_on_one_process(self, two, tmp_path, name, flags):
        recipe(two, tmp_path, flags)
        whole, sharded = (checkpoint.load(folder / LAST) for folder in (tmp_path, two / name))
        for part in ("loss", "ema", "optimizer"):
            assert difference(whole["parts"][part], sharded["parts"][part]) < 1e-5, part
        assert whole["frozen"] == sharded["frozen"] and whole["names"] == sharded["names"]
        models = [
            CellFlux.from_pretrained(folder).state_dict() for folder in (tmp_path / "model", two / name / "model")
        ]
        assert difference(*models) < 1e-5 < difference(models[0], CellFlux.from_pretrained(two / "base").state_dict())
        logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (tmp_path, two / name)]
        for of_one, of_two in zip(*(map(json.loads, lines) for lines in logs), strict=True):
            for key in ("reward", "loss_nft", "grad_norm", "drift"):
                assert of_two[key] == pytest.approx(of_one[key], rel=1e-3, abs=1e-6), key

    def test_they_resume_bit_for_bit(self, two):
        straight, resumed = (checkpoint.load(two / run / LAST)["parts"] for run in ("straight", "stopped"))
        assert difference(straight, resumed) == 0

    def test_one_process_resumes_what_they_saved(self, two, tmp_path):
        shutil.copytree(two / "stopped", tmp_path, dirs_exist_ok=True)
        (tmp_path / LAST).unlink()
        recipe(two, tmp_path, "--resume")
        sharded, whole = (checkpoint.load(folder / LAST)["parts"] for folder in (two / "straight", tmp_path))
        assert difference(sharded["loss"], whole["loss"]) < 1e-5

    def test_they_save_a_whole_model_of_an_actor_that_learned_with_a_critic(self, two, tmp_path):
        alone = ppo(tmp_path, start_accelerator(threads=1)).network.state_dict()
        assert difference(alone, CellFlux.from_pretrained(two / "model").network.state_dict()) < 1e-5

    def test_nan_on_one_stops_both_and_is_saved_by_the_one_that_has_it(self, two):
        messages = [torch.load(two / f"rank-{rank}.pt", weights_only=True)["nan"] for rank in (0, 1)]
        assert "no row of this process" in messages[0] and "the 2 rows that make it so" in messages[1]
