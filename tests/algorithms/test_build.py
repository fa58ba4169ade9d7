"""Configs of cells, segmenters and rewards reach what they are about, and what cannot work is refused."""

import csv
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms import build
from algorithms.build import (
    build_cells,
    build_judge,
    build_nucleus_segmenter,
    build_rewards,
    build_scorer,
    build_segmenter,
    build_steps,
    check_generators,
    check_labelled,
)
from algorithms.config import (
    DataConfig,
    EvalConfig,
    FolderConfig,
    NucleusConfig,
    RewardConfig,
    SegmenterConfig,
    TrainingRewardConfig,
)
from algorithms.workers import process
from algorithms.workers.scorer import LocalScorer
from cellenv.data.layouts import LAYOUTS
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.images import CHANNELS
from cellenv.weights_io import digest
from rewards import AveragedOverOrientations, JudgeClassifier, JudgeSegmenter, MoAClassifier, Reference
from rewards.segmentation import ClassicalSegmenter, EmbeddedSegmenter, cellpose
from tests.folder_toys import write_folder


@pytest.fixture
def folder(tmp_path):
    """A seen and a held-out compound, two images each and two controls, in the test split."""
    data = SyntheticCells("test")
    taxol, docetaxel = data.compound_id("taxol"), data.compound_id("docetaxel")
    shown = (data.perturbation == taxol).nonzero().flatten()[:4]
    data.perturbation[shown[2:]] = docetaxel
    rows = torch.cat([shown, data.controls[:2]])
    write_folder(tmp_path / "cells", data, rows, torch.zeros(6, 3, 16, 16))
    return tmp_path / "cells"


def names(data):
    return {data.compounds[p] for p in data.perturbation[data.treated].tolist()}


def test_no_path_is_the_embedded_world():
    cells = build_cells(DataConfig(), "validation")
    assert isinstance(cells, SyntheticCells) and cells.split == "validation"
    assert names(build_cells(DataConfig(), "test", unseen=True)).isdisjoint(names(build_cells(DataConfig(), "test")))


def test_held_out_compounds_are_taken_with_the_others_alone_or_not_at_all(folder):
    with_all = DataConfig(path=folder, include_unseen=True)
    assert names(build_cells(DataConfig(path=folder), "test")) == {"taxol"}
    assert names(build_cells(DataConfig(path=folder), "test", unseen=True)) == {"docetaxel"}
    assert names(build_cells(with_all, "test")) == {"taxol", "docetaxel"}
    with pytest.raises(ValueError, match="--unseen takes the held-out compounds alone, --include-unseen all"):
        build_cells(with_all, "test", unseen=True)


def test_bad_rows_are_left_out_and_images_are_packed_on_request(folder, tmp_path):
    (folder / "Week1" / "100" / "1_0.0.npy").write_bytes(b"no image")
    with pytest.raises(ValueError, match="damaged"):
        build_cells(DataConfig(path=folder, cache=tmp_path / "a"), "test")
    with pytest.warns(UserWarning, match="1 rows of .* are left out"):
        assert len(build_cells(DataConfig(path=folder, cache=tmp_path / "b", skip_bad=True), "test")) == 3
    assert np.load(tmp_path / "b" / "images.npy").shape == (6, 3, 16, 16)


@pytest.fixture
def unlabelled(tmp_path):
    """Four images in the RxRx1 layout, which names no mechanisms of action."""
    keys = [f"U2OS-01_2_B03_1_{i}" for i in range(4)]
    header = ["", "SAMPLE_KEY", "BATCH", "CPD_NAME", "ANNOT", "SPLIT"]
    states = ["treated", "negative_control"] * 2
    rows = [(i, key, "b", "gene", s, ("train", "test")[i // 2]) for i, (key, s) in enumerate(zip(keys, states))]
    for name, content in {"rxrx1_df.csv": [header, *rows], "x_embeddings.csv": [["", "0"], ["gene", 1]]}.items():
        with (tmp_path / name).open("w", newline="") as stream:
            csv.writer(stream).writerows(content)
    (tmp_path / "01_2" / "B03").mkdir(parents=True)
    for i in range(4):
        np.save(tmp_path / "01_2" / "B03" / f"1_{i}.npy", np.zeros((4, 4, 6), np.uint8))
    return DataConfig(path=tmp_path, layout="rxrx1")


def test_one_of_several_tables_is_chosen(unlabelled):
    folder = unlabelled.path
    (folder / "metadata").mkdir()
    (folder / "rxrx1_df.csv").rename(folder / "metadata" / "rxrx1_df.csv")
    (folder / "metadata" / "rxrx1_df_subset.csv").write_text("SAMPLE_KEY\n")
    (folder / "gene2vec.csv").write_text(",0,1\ngene,2,3\n")
    with pytest.raises(FileNotFoundError, match=r"rxrx1_df_subset\.csv"):
        build_cells(unlabelled, "test")
    chosen = replace(unlabelled, index=Path("rxrx1_df.csv"), embeddings=folder / "gene2vec.csv")
    assert build_cells(chosen, "test").conditions.tolist() == [[2, 3]]
    with pytest.raises(FileNotFoundError, match=r"no table nowhere.csv or .*metadata/nowhere.csv"):
        build_cells(replace(chosen, index=Path("nowhere.csv")), "test")


def test_stains_pairing_and_labels_are_those_of_the_config(folder, unlabelled):
    order = "Golgi,Mito,RNA,AGP,ER,DNA"
    assert build_cells(replace(unlabelled, channels=order, cytoplasm="AGP"), "test").channels[3:] == (
        "actin",
        "ER",
        "DNA",
    )
    with pytest.raises(ValueError, match="actin, ER is none of the channels a, b, DNA"):
        build_cells(replace(unlabelled, channels="a,b,DNA"), "test")
    assert build_cells(DataConfig(path=folder, pairing="PLATE"), "test").plate.unique().numel() == 1
    assert build_cells(DataConfig(path=folder), "test").plate.unique().numel() == 2
    assert build_cells(DataConfig(path=folder, unlabelled=True), "test").moas == ()
    assert build_cells(replace(unlabelled, label="CPD_NAME"), "test").moas == ("gene",)
    for name, layout in LAYOUTS.items():
        assert FolderConfig(layout=name).labelled == (layout.label is not None)
        assert FolderConfig(layout=name, label="CPD_NAME").labelled
        assert not FolderConfig(layout=name, label="CPD_NAME", unlabelled=True).labelled


def test_cells_without_mechanisms_are_loaded_and_refused_where_these_are_needed(unlabelled):
    cells = build_cells(unlabelled, "test")
    assert cells.size == (6, 4, 4)
    with pytest.raises(ValueError, match=r"no mechanisms of action: need a column .*ANNOT"):
        check_labelled(cells)
    check_labelled(SyntheticCells("test"))


def test_a_segmenter_is_named_after_exactly_what_it_is(tmp_path, monkeypatch):
    class Cellpose(ClassicalSegmenter):
        def __init__(self, *weights, device):
            self.files = [tmp_path / name for name in weights]

    own = EmbeddedSegmenter(nucleus_widths=(4, 8), cell_widths=(4, 8))
    own.save_pretrained(tmp_path / "own.safetensors")
    for name in "ab":
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(cellpose, "CellposeSegmenter", Cellpose)
    asked = {
        "embedded": SegmenterConfig(),
        "own": SegmenterConfig(segmenter=str(tmp_path / "own.safetensors")),
        "classical": SegmenterConfig(segmenter="classical"),
        "ab": SegmenterConfig(segmenter="cellpose", nucleus_weights="a", cell_weights="b"),
        "bb": SegmenterConfig(segmenter="cellpose", nucleus_weights="b", cell_weights="b"),
    }
    found = {key: build_segmenter(config) for key, config in asked.items()}
    assert len({name for _, name in found.values()}) == len(asked)
    nuclei, name = build_nucleus_segmenter(NucleusConfig(segmenter="cellpose", nucleus_weights="b"))
    assert isinstance(nuclei, Cellpose) and name == found["bb"][1]  # no file for cells is asked for
    assert found["embedded"][1] == digest(EmbeddedSegmenter.shipped)
    assert found["own"][0].config == own.config
    assert [type(segmenter) for segmenter, _ in found.values()][2:] == [ClassicalSegmenter, Cellpose, Cellpose]


def test_weights_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="holds a JudgeSegmenter, need a EmbeddedSegmenter"):
        build_segmenter(SegmenterConfig(segmenter=str(JudgeSegmenter.shipped)))


def test_a_reference_of_another_segmenter_is_refused():
    assert build_rewards(RewardConfig(), "cpu").reference.populations == SyntheticCells.moas
    with pytest.raises(ValueError, match=r"reference was fitted with .* --segmenter classical is classical"):
        build_rewards(RewardConfig(segmenter="classical"), "cpu")


def test_rewards_are_those_of_the_terms_with_the_models_of_the_config(tmp_path, seeded):
    MoAClassifier(SyntheticCells.moas).save_pretrained(tmp_path / "own.safetensors")
    terms = ("containment=0", "cell_size=3")
    suite = build_rewards(RewardConfig(terms=terms, classifier=tmp_path / "own.safetensors"), "cpu")
    weights = {spec.name: spec.weight for spec in suite.specs}
    assert "containment" not in weights and weights["cell_size"] == 3 and weights["moa"] == 5
    *_, total, _ = suite.transform(CHANNELS)
    assert total.weights == weights
    own = MoAClassifier.from_pretrained(tmp_path / "own.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(suite.classifier.parameters(), own.parameters(), strict=True))


def test_rewards_of_cells_without_mechanisms_stand_on_compounds(unlabelled, tmp_path):
    cells, shipped = build_cells(unlabelled, "test"), Reference.load()
    by_compound = replace(shipped, by="compound", populations=("gene", *shipped.populations[1:]))
    by_compound.save(tmp_path / "reference.json")
    config = RewardConfig(reference=tmp_path / "reference.json")
    suite = build_rewards(config, "cpu", cells)
    assert suite.reference.populations == cells.compounds == ("gene",)
    assert {spec.conditioned_on for spec in suite.specs} == {"compound", "nothing"} and len(suite.specs) == 6
    assert len(build_rewards(config, "cpu").specs) == 7
    training = TrainingRewardConfig(reference=config.reference)
    inputs = build_steps(training, CHANNELS, "cpu", suite.names).inputs
    assert "perturbation" in inputs and "moa" not in inputs
    with pytest.raises(ValueError, match="on which moa is conditioned"):
        build_rewards(replace(config, terms=("moa=2",)), "cpu", cells)
    with pytest.raises(ValueError, match="the reference has none of the 34 compounds of these cells, but gene"):
        build_rewards(config, "cpu", SyntheticCells("test"))
    with pytest.raises(ValueError, match=r"the reference of roundness, .* is fitted"):
        build_rewards(RewardConfig(), "cpu", cells)
    assert build_judge(EvalConfig(), cells) is None


def test_shaping_and_another_segmenter_reach_the_transform(data):
    images = data.images(data.treated[:16])
    contexts = data.contexts(data.treated[:16], torch.Generator().manual_seed(0)).set("action", -images)  # far off

    def rewards(shaping, segmenter=None):
        suite = build_rewards(RewardConfig(shaping=shaping), "cpu")
        return suite.transform(CHANNELS, segmenter)(contexts.copy())["rewards", "cell_size"]

    assert rewards("default").min() >= -25 > rewards("paper").min()
    assert not rewards("paper").equal(rewards("paper", ClassicalSegmenter()))


def test_workers_build_the_same_rewards_and_are_as_the_config_says(monkeypatch, data):
    monkeypatch.setattr(process, "ProcessChannel", lambda build: build)  # in place of a new process
    terms = ("cell_size=0",)
    rewards = TrainingRewardConfig(terms=terms, workers=2, timeout=5.0, on_failure="nan", orientations="one")
    suite = build_rewards(rewards, "cpu")
    with build_scorer(rewards, suite, data.channels, "cpu") as pool:
        steps = pool.workers[0].connect()()
        assert (len(pool.workers), pool.workers[0].timeout, pool.on_failure) == (2, 5.0, "nan")
        assert pool.inputs == steps.inputs == {"action", "moa"}
    alone = TrainingRewardConfig(terms=terms, on_failure="nan", orientations="one")
    local = build_scorer(alone, suite, data.channels, "cpu")
    assert local.on_failure == "nan" and local.steps.names == steps.names and "cell_size" not in steps.names
    td = data.contexts(data.treated[:8], torch.Generator().manual_seed(0)).set("sample", torch.arange(8))
    td["action"] = data.images(data.treated[:8])
    steps.begin(td)
    for name in steps.names:
        steps.run(name)
    found, expected = steps.finish(), suite.transform(data.channels)(td.copy())
    assert torch.equal(found["reward"], expected["reward"])
    assert torch.equal(local.submit(td, 0).result()["reward"], expected["reward"])


@pytest.fixture
def without_models(monkeypatch):
    """A suite that loads nothing, for scorers whose workers do not start."""
    monkeypatch.setattr(build, "training_steps", lambda *_: SimpleNamespace(inputs={"action"}))
    return SimpleNamespace(names=None)


@pytest.mark.parametrize(
    ("asked", "device", "found"),
    [("cuda", "cuda:3", "cuda:3"), ("cuda:1", "cuda:3", "cuda:1"), ("cpu", "cuda:3", "cpu"), ("cuda", "cpu", "cuda")],
)
def test_workers_are_on_the_card_of_their_process(monkeypatch, without_models, asked, device, found):
    monkeypatch.setattr(process, "ProcessChannel", lambda build: build)
    config = TrainingRewardConfig(workers=1, worker_device=asked)
    with build_scorer(config, without_models, CHANNELS, torch.device(device)) as pool:
        assert pool.workers[0].connect().args[2] == found


def test_ray_gives_each_actor_a_card(monkeypatch, without_models):
    started = []
    ray_actor = SimpleNamespace(
        start_ray=lambda *args, **options: started.append((*args, options)), RayChannel=lambda build, gpu: (build, gpu)
    )
    monkeypatch.setitem(sys.modules, "algorithms.workers.ray_actor", ray_actor)
    config = TrainingRewardConfig(workers=2, worker_device="cuda", ray="local")
    with build_scorer(config, without_models, CHANNELS, "cuda:3") as pool:
        steps, gpu = pool.workers[0].connect()
    assert steps.args[2] == "cuda" and gpu and started == [("local", 2, {"gpu": True})]


def test_a_training_averages_the_classifier_over_orientations_and_evaluations_do_not(data):
    td = data.contexts(data.treated[:8], torch.Generator().manual_seed(0)).set("sample", torch.arange(8))
    td["action"] = data.images(data.treated[:8])
    suite = build_rewards(RewardConfig(), "cpu")
    evaluated = suite.transform(data.channels)(td.copy())["rewards"]

    def scored(config):
        return build_scorer(config, suite, data.channels, "cpu").submit(td, 0).result()["rewards"]

    one, averaged = scored(TrainingRewardConfig(orientations="one")), scored(TrainingRewardConfig())
    assert all(torch.equal(one[name], evaluated[name]) for name in evaluated.keys())
    assert [name for name in one.keys() if not torch.equal(one[name], averaged[name])] == ["moa"]
    probability = AveragedOverOrientations(MoAClassifier.from_pretrained())(td["action"]).softmax(1)
    torch.testing.assert_close(averaged["moa"], probability.gather(1, td["moa"][:, None]))
    of_worker = LocalScorer(build_steps(TrainingRewardConfig(), data.channels, "cpu")).submit(td, 0).result()
    assert torch.equal(of_worker["rewards", "moa"], averaged["moa"])
    without = TrainingRewardConfig(terms=("moa=0",))
    assert "moa" not in build_scorer(without, build_rewards(without, "cpu"), data.channels, "cpu").steps.names


def test_judge_is_the_shipped_one_or_that_of_the_config(tmp_path, seeded):
    JudgeClassifier(["a", "b"]).save_pretrained(tmp_path / "judge.safetensors")
    assert build_judge(EvalConfig()).moas == SyntheticCells.moas
    assert build_judge(EvalConfig(judge=tmp_path / "judge.safetensors")).moas == ("a", "b")


def test_a_generator_of_other_cells_is_refused(folder):
    generator = CellFlux.from_pretrained("embedded")
    check_generators(SyntheticCells("test"), generator)
    with pytest.raises(ValueError, match=r"\(3, 96, 96\) images from 64 .* the cells have \(3, 16, 16\) and 64"):
        check_generators(build_cells(DataConfig(path=folder), "test"), generator)


def test_reference_of_the_config_is_used(tmp_path):
    reference = Reference.load()
    replace(reference, std={name: 2 * std for name, std in reference.std.items()}).save(tmp_path / "reference.json")
    suite = build_rewards(RewardConfig(reference=tmp_path / "reference.json"), "cpu")
    torch.testing.assert_close(suite.reference.std["roundness"], 2 * reference.std["roundness"])
