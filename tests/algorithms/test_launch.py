"""Starting Accelerate: precision, and launches that are refused."""

from types import SimpleNamespace

import pytest
import torch

from algorithms import launch
from algorithms.interruption import LAUNCHERS
from algorithms.launch import automatic_precision, start_accelerator


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
def test_fp16_without_a_gpu_raises(monkeypatch, fresh_accelerate):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        start_accelerator(mixed_precision="fp16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        start_accelerator(mixed_precision="auto")


@pytest.mark.parametrize(
    ("launcher", "native_bf16", "expected"),
    [("no", True, "bf16"), ("no", False, "no"), (None, True, "bf16"), ("fp16", True, "fp16"), ("bf16", False, "bf16")],
)
def test_automatic_precision_is_the_launchers_or_the_hardwares(monkeypatch, launcher, native_bf16, expected):
    monkeypatch.setattr(launch, "has_native_bf16", lambda: native_bf16)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launcher is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert automatic_precision() == expected


def test_accumulation_by_the_launcher_raises(monkeypatch, fresh_accelerate):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="gradient accumulation of 4 came from the launcher"):
        start_accelerator(threads=1)


def test_deepspeed_and_shards_where_weights_are_whole_are_refused(fsdp2, monkeypatch):
    with pytest.raises(ValueError, match="FSDP is for post-training alone"):
        start_accelerator(threads=1)
    with pytest.raises(ValueError, match="fp16 is not supported with FSDP"):
        monkeypatch.setattr(launch, "has_accelerator", lambda: True)
        start_accelerator(mixed_precision="fp16", may_shard=True)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="DeepSpeed is not supported: launch with accelerate_configs"):
        start_accelerator(threads=1, may_shard=True)


def test_ranks_that_do_not_see_each_other_raise(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launch, "Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    with pytest.raises(ValueError, match="2 processes were started, but each believes that there are 1"):
        start_accelerator(threads=1)


@pytest.mark.parametrize(
    ("given", "launcher", "processes", "threads"),
    [
        (None, None, "1", 8),
        (None, None, "4", 2),
        ("3", None, "1", 3),
        ("1", None, "1", 1),
        ("1", "TORCHELASTIC_RUN_ID", "2", 4),
        ("1", "ACCELERATE_DYNAMO_BACKEND", "1", 8),
        ("3", "TORCHELASTIC_RUN_ID", "2", 3),
    ],
)
def test_threads_are_those_of_the_user_or_the_cores_are_shared(monkeypatch, given, launcher, processes, threads):
    monkeypatch.setattr(launch, "available_cores", lambda: 8)
    for name, value in (("OMP_NUM_THREADS", given), ("LOCAL_WORLD_SIZE", processes), *((n, None) for n in LAUNCHERS)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    if launcher:
        monkeypatch.setenv(launcher, "x")
    assert launch.default_threads() == threads


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(("asked", "processes", "others", "threads"), [(None, 2, 0, 4), (None, 2, 3, 1), (6, 2, 3, 6)])
def test_processes_beside_this_one_get_a_core_each(monkeypatch, fresh_accelerate, asked, processes, others, threads):
    monkeypatch.setattr(launch, "available_cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    start_accelerator(threads=asked, other_processes=others)
    assert given == [threads]


@pytest.mark.parametrize(("device", "taken"), [(None, False), ("cuda", True), ("mps", False)])
def test_an_accelerator_without_float64_is_not_taken(monkeypatch, device, taken):
    found = None if device is None else torch.device(device)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
    assert launch.has_accelerator() == taken


def test_a_launcher_that_asks_for_the_cpu_gets_it_beside_a_gpu(monkeypatch):
    """As accelerate_configs/cpu.yaml does: no GPU is taken, and its bfloat16 is not the CPU's."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert launch.has_accelerator() and launch.has_native_bf16()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert not launch.has_accelerator() and not launch.has_native_bf16()
