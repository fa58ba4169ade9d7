import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from algorithms.recipes.fit import segmenter_training
from algorithms.recipes.fit.segmenter import PRESETS, SegmenterFitConfig
from algorithms.recipes.fit.segmenter_training import (
    MODELS,
    Scenes,
    build_tasks,
    clutter,
    crowd,
    draw_batch,
    estimate_fit,
    fit_segmenter,
    flow_loss,
    initial_segmenter,
    make_scenes,
    resolve_defaults,
    train,
)
from cellenv.streams import rng_at
from rewards.judge import JudgeSegmenter
from rewards.segmentation import EmbeddedSegmenter
from rewards.segmentation.targets import unit_flows

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def tasks():
    return build_tasks(initial_segmenter(SMOKE, 0), SMOKE)


def test_empty_images_have_empty_targets():
    scenes = Scenes(
        torch.full((4, 1, 32, 32), 200, dtype=torch.uint8),
        torch.ones(4, 32, 32, dtype=torch.uint8),
        torch.ones(4, 2, 32, 32, dtype=torch.float16),
    )
    x, flows, mask = draw_batch(scenes, torch.arange(4), cluttered=True, empty=1.0, rng=rng_at(0))
    assert not flows.any() and not mask.any() and 0 <= x.min() and x.max() <= 1
    _, flows, mask = draw_batch(scenes, torch.arange(4), cluttered=False, empty=0.0, rng=rng_at(0))
    assert flows.all() and mask.all()


def test_masked_neighbours_are_no_targets(monkeypatch):
    monkeypatch.setattr(segmenter_training, "MASKED", 1.0)
    labels = torch.ones(4, 32, 32, dtype=torch.uint8)
    labels[:, :, 20:] = 2
    scenes = Scenes(torch.full((4, 1, 32, 32), 200, dtype=torch.uint8), labels, torch.ones(4, 2, 32, 32))
    _, flows, mask = draw_batch(scenes, torch.arange(4), cluttered=True, empty=0.0, rng=rng_at(0))
    assert torch.equal(flows != 0, mask.bool().unsqueeze(1).expand_as(flows))
    assert mask.mean() == 20 / 32
    assert draw_batch(scenes, torch.arange(4), cluttered=False, empty=0.0, rng=rng_at(0))[2].all()


def test_an_object_that_the_background_hides_is_no_target(monkeypatch):
    monkeypatch.setattr(segmenter_training, "MASKED", 0.0)
    x, labels = torch.zeros(40, 2, 32, 32), torch.zeros(40, 32, 32, dtype=torch.int32)
    x[:, :, 2:14, 2:14], labels[:, 2:14, 2:14] = 0.9, 1
    x[:, :, 18:30, 18:30], labels[:, 18:30, 18:30] = 0.004, 2
    for share, kept in ((0.0, 40), (1.0, 0)):
        monkeypatch.setattr(segmenter_training, "BACKGROUND", share)
        left = clutter(x, labels, rng_at(0))[1]
        assert (left[:, 3, 3] > 0).all() and int((left[:, 20, 20] > 0).sum()) == pytest.approx(kept, abs=8)


def test_training_goes_on_from_weights_and_leaves_the_network_without_steps(tmp_path):
    start, file = tmp_path / "start.safetensors", tmp_path / "a.safetensors"
    EmbeddedSegmenter().save_pretrained(start)
    few = {"scenes": 4, "validation": 2, "nucleus_steps": 0, "cell_steps": 0, "clutter_steps": 1}
    fit_segmenter(replace(SMOKE, start=start, weights=file, **few))
    old, new = (EmbeddedSegmenter.from_pretrained(path).state_dict() for path in (start, file))
    assert {name for name in old if torch.equal(old[name], new[name])} == {name for name in old if "nuclei" in name}
    results = json.loads(file.with_suffix(".json").read_text())["training"]["results"]
    assert "loss" in results["cells"] and "loss" not in results["nuclei"] and results["nuclei"]["iou"] >= 0
    with pytest.raises(ValueError, match="got 0 for nuclei and 2 for cells; give --start"):
        fit_segmenter(replace(SMOKE, weights=file, nucleus_steps=0))


def test_cells_are_trained_on_plain_crops_and_then_on_cluttered_ones(data, tasks, monkeypatch):
    drawn = []
    draw = segmenter_training.draw_batch
    monkeypatch.setattr(
        segmenter_training, "draw_batch", lambda *args, **kw: drawn.append(kw["cluttered"]) or draw(*args, **kw)
    )
    for task in tasks:
        train(task, make_scenes(data, task, 2, rng_at(0)), SMOKE, rng_at(1))
    assert drawn == [False, False, False, False, True, True]


def test_scenes_are_random_crops_with_their_flows(data, tasks):
    nuclei, cells = tasks
    for task, planes in ((nuclei, 1), (cells, 2)):
        scenes = make_scenes(data, task, 6, rng_at(0))
        assert scenes.pixels.shape == (6, planes, 96, 96)
        torch.testing.assert_close(scenes.flows.float(), unit_flows(scenes.labels.int()), atol=1e-3, rtol=0)
        inside = scenes.labels > 0
        light = scenes.pixels.float().mean(1)
        assert light[inside].mean() > 1.5 * light[~inside].mean()  # the labels are those of the pixels


def test_half_of_the_images_get_each_layer_of_other_objects():
    image, labels = torch.zeros(400, 1, 8, 8), torch.zeros(400, 8, 8, dtype=torch.int32)

    def add(image, labels, *_):
        return image + 1, labels + 1

    crowded, layers = crowd(image, labels, add, rng_at(0))
    assert crowded[:, 0].equal(layers.float())  # pixels and labels are changed together
    assert layers.double().mean() == pytest.approx(2, abs=0.15) and layers.max() == 4


def test_the_loss_by_hand():
    """Flows that are off by 1 everywhere, and foreground logits of 0: 1 / 2 + log 2; right ones: 0."""
    flows, mask = torch.full((2, 2, 8, 8), 0.5), torch.ones(2, 8, 8)
    right = torch.cat([5 * flows, 40 * mask.unsqueeze(1)], 1)
    off = torch.cat([5 * flows + 1, 0 * mask.unsqueeze(1)], 1)
    x = torch.rand(2, 1, 8, 8, generator=rng_at(0))
    assert flow_loss(lambda _: right, x, flows, mask).item() == pytest.approx(0, abs=1e-6)
    assert flow_loss(lambda _: off, x, flows, mask).item() == pytest.approx(0.5 + math.log(2))


@pytest.mark.parametrize("native", [True, False])
def test_networks_run_in_bfloat16_only_where_the_hardware_has_it(native, monkeypatch):
    monkeypatch.setattr(segmenter_training, "has_native_bf16", lambda: native)
    network, seen = torch.nn.Conv2d(1, 3, 1), []
    network.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    flow_loss(network, torch.rand(1, 1, 8, 8, generator=rng_at(0)), torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8))
    assert seen == [torch.bfloat16 if native else torch.float32]


def test_training_lowers_the_loss(data, tasks):
    whole = make_scenes(data, tasks[0], 8, rng_at(0))
    middle = slice(32, 64)
    scenes = Scenes(*(value[..., middle, middle] for value in (whole.pixels, whole.labels, whole.flows)))
    config = replace(SMOKE, batch_size=4)
    stage = tasks[0].stages[0]
    first, last = (
        train(replace(tasks[0], stages=(stage._replace(steps=steps),)), scenes, config, rng_at(1)) for steps in (1, 12)
    )
    assert last < first


def test_the_model_decides_on_place_and_seed():
    for config, model, seed in ((PRESETS["default"], EmbeddedSegmenter, 0), (PRESETS["judge"], JudgeSegmenter, 1)):
        assert resolve_defaults(config) == (model.shipped, seed) and MODELS[config.model] is model
    given = SegmenterFitConfig(model="judge", weights=Path("a.safetensors"), seed=0)
    assert resolve_defaults(given) == (Path("a.safetensors"), 0)


def test_weights_stay_as_they_were_until_both_networks_are_trained(tmp_path, monkeypatch):
    file = tmp_path / "old.safetensors"
    EmbeddedSegmenter().save_pretrained(file)
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(task, scenes, config, rng):
        if task.name == "cells":
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(segmenter_training, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_segmenter(replace(SMOKE, weights=file, scenes=2, validation=2))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_run_is_repeated_by_its_seed_whatever_the_global_stream(tmp_path):
    few = {"scenes": 4, "validation": 2, "batch_size": 2, "nucleus_steps": 1, "cell_steps": 1}
    config = replace(SMOKE, weights=tmp_path / "a.safetensors", **few)
    fit_segmenter(config)
    torch.rand(())
    fit_segmenter(replace(config, weights=tmp_path / "b.safetensors"))
    first, second = (EmbeddedSegmenter.from_pretrained(tmp_path / f"{name}.safetensors") for name in "ab")
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    training = json.loads((tmp_path / "a.json").read_text())["training"]
    assert "weights" not in training["config"] and training["config"]["seed"] == 0


def test_the_estimate_scales_with_scenes_and_steps(monkeypatch):
    """Nothing is run but the making of a few scenes; each timed piece counts as 16 seconds: of 16 scenes, 4 steps."""
    monkeypatch.setattr(segmenter_training, "seconds_of", lambda work: 16.0)
    monkeypatch.setattr(segmenter_training, "make_scenes", lambda *_: None)
    config = SegmenterFitConfig(scenes=100, validation=1, nucleus_steps=10, cell_steps=15, clutter_steps=5)
    assert estimate_fit(config)[:2] == (0, 2 * 101 + 4 * 30 + 2)
    assert estimate_fit(replace(config, scenes=200)).seconds == 2 * 201 + 4 * 30 + 2
    assert (
        estimate_fit(replace(config, nucleus_steps=20, cell_steps=30, clutter_steps=10)).seconds == 2 * 101 + 4 * 60 + 2
    )
    assert estimate_fit(replace(config, validation=10)).seconds == 2 * 110 + 4 * 30 + 2 * 10
