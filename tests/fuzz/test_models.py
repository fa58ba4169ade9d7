"""Fuzzed files of models: config, weights, statistics, scales, published checkpoints."""

import hashlib
import json
import math
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given

from algorithms import checkpoint
from cellenv.generator import CellFlux, Sampling
from cellenv.gym.score import Fingerprint, StoredScale
from cellenv.json_io import read_json
from cellenv.networks import UNet, UNetConfig
from cellenv.published import read_published
from rewards.classifier import MoAClassifier
from rewards.reference import Reference
from rewards.segmentation.embedded import EmbeddedSegmenter
from tests.fuzz.damage import damaged_bytes, damaged_json, fuzz, refuse_or_read

TINY = UNetConfig(size=(1, 4, 4), condition_dim=2, width=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a sound file of every kind."""
    folder = tmp_path_factory.mktemp("models")
    CellFlux(UNet(TINY), TINY, Sampling(steps=2)).save_pretrained(folder / "generator", {"seed": 1})
    EmbeddedSegmenter((4, 4), (4, 4)).save_pretrained(folder / "segmenter.safetensors")
    MoAClassifier(["a", "b"], size=(3, 16, 16)).save_pretrained(folder / "classifier.safetensors")
    measures = {"roundness": torch.tensor([0.1, 0.3, 0.5, 0.9]), "cell_count": torch.tensor([1.0, 1.0, 2.0, 2.0])}
    Reference.fit(measures, torch.tensor([0, 0, 1, 1]), ["a", "b"], min_cells=2).save(folder / "reference.json")
    fingerprint = Fingerprint(version=2, task="Paint", generator="a", contexts="b", rewards=(0.5, 1.0))
    scale = StoredScale(fingerprint=fingerprint, untouched=(0.0, 1.0), oracle=(1.0, 2.0))
    (folder / "gym.json").write_text(json.dumps({"Paint": asdict(scale)}))
    weights = {name: torch.ones_like(value) for name, value in UNet(TINY).state_dict().items()}
    torch.save({"model": weights, "epoch": 3}, folder / "published.pth")
    checkpoint.save(folder / "checkpoints", 2, {"loss": weights, "rng": [checkpoint.rng_state()], "steps": 3})
    return folder


READERS = {  # JSON file -> what reads it
    "generator/config.json": lambda file: CellFlux.from_pretrained(file.parent),
    "segmenter.json": lambda file: EmbeddedSegmenter.from_pretrained(file.with_suffix(".safetensors")),
    "classifier.json": lambda file: MoAClassifier.from_pretrained(file.with_suffix(".safetensors")),
    "reference.json": Reference.load,
    "gym.json": lambda file: read_json(file, dict[str, StoredScale]),
}


@pytest.mark.parametrize("name", READERS)
def test_damaged_json(models, name):
    file = models / name
    sound = file.read_bytes()

    @fuzz
    @given(damaged_json(json.loads(sound)) | damaged_bytes(sound))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        found = refuse_or_read(lambda: READERS[name](file), file, file.parent, file.with_suffix(".safetensors"))
        if isinstance(found, CellFlux) and math.prod(found.config.size) < 10**5:  # what is read works
            images = torch.zeros(1, *found.config.size)
            condition = torch.zeros(1, found.config.condition_dim)
            found.sampling = Sampling(steps=1, noise_level=found.noise_level, guidance=found.guidance)
            assert found.sample(images, condition, torch.zeros(1, dtype=torch.int64))[0].isfinite().all()
        if isinstance(found, Reference):
            assert all((found.sigma(measure) > 0).all() for measure in found.mean)

    try:
        check()
    finally:
        file.write_bytes(sound)
    READERS[name](file)


@pytest.mark.parametrize("name", ["generator/model.safetensors", "segmenter.safetensors", "classifier.safetensors"])
def test_damaged_weights_of_a_matching_digest(models, name):
    weights = models / name
    config = weights.with_name("config.json") if weights.parent != models else weights.with_suffix(".json")
    sound, about = weights.read_bytes(), json.loads(config.read_text())

    @fuzz
    @given(damaged_bytes(sound[:2000]))
    def check(start: bytes) -> None:
        content = start + sound[2000:]
        weights.write_bytes(content)
        config.write_text(json.dumps(about | {"sha256": hashlib.sha256(content).hexdigest()}))
        reader = READERS[config.relative_to(models).as_posix()]
        refuse_or_read(lambda: reader(config), weights, config, weights.parent)

    check()


@pytest.mark.parametrize(
    ("name", "read"),
    [("published.pth", lambda file: read_published(file, network=TINY)), ("checkpoints/000002.pt", checkpoint.load)],
)
def test_damaged_archives(models, name, read):
    """Anywhere, or in the pickle with a checksum that fits."""
    file, sound = models / "damaged.pth", (models / name).read_bytes()
    with zipfile.ZipFile(models / name) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    pickled = next(member for member in members if member.endswith("data.pkl"))

    @fuzz
    @given(
        damaged_bytes(sound).map(lambda content: (content, None))
        | damaged_bytes(members[pickled]).map(lambda p: (None, p))
    )
    def check(damage: tuple[bytes | None, bytes | None]) -> None:
        content, edited = damage
        if content is not None:
            file.write_bytes(content)
        else:
            with zipfile.ZipFile(file, "w") as archive:
                for member, value in (members | {pickled: edited}).items():
                    archive.writestr(member, value)
        refuse_or_read(lambda: read(file), file)

    check()
