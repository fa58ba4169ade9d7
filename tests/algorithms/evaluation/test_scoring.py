import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from algorithms.build import build_folder
from algorithms.config import FolderConfig, RewardConfig
from algorithms.evaluation import scoring
from algorithms.evaluation.score import ScoreConfig
from algorithms.evaluation.scoring import FolderScorer, estimate_scoring, score_folder, translate_ids
from rewards import SUITE
from rewards.classifier import MoAClassifier
from rewards.measures import measure
from rewards.reference import Reference
from rewards.segmentation import ClassicalSegmenter
from tests.algorithms.evaluation.evaluation_toys import reference_by_compound
from tests.folder_toys import write_folder

COLUMNS = [
    *("sample_key", "compound", "moa", "state", "nucleus_count", "cell_count", "nucleus_area_max", "cell_area_max"),
    *("roundness", "containment", "moa_probability"),
]
CLASSICAL = RewardConfig(segmenter="classical")
TREATED, N = 6, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data):
    """Ten synthetic cells, four of them controls, the last one black: the folder, the images, the table."""
    path = tmp_path_factory.mktemp("cells")
    rows = torch.cat([data.treated[: 60 * TREATED : 60], data.controls[:4]])
    images = data.images(rows)
    images[-1] = -1
    return path, images, write_folder(path, data, rows, images, train=7)


@pytest.fixture
def config(folder, tmp_path):
    return ScoreConfig(folder=folder[0], output_dir=tmp_path / "out", reward=CLASSICAL)


@pytest.fixture(scope="module")
def models(tmp_path_factory, data):
    """RewardConfig with a classifier and a reference that know the mechanisms in another order, and only these."""
    path = tmp_path_factory.mktemp("models")
    moas = tuple(reversed(data.moas[:8]))
    classifier = MoAClassifier(moas).eval()
    with torch.no_grad():
        classifier.head.bias.copy_(torch.linspace(0, 2, len(moas)))
    classifier.save_pretrained(path / "classifier.safetensors")
    shipped = Reference.load()
    order = [shipped.populations.index(moa) for moa in moas]
    picked = {name: {key: v[order] for key, v in getattr(shipped, name).items()} for name in ("mean", "std")}
    reference = replace(
        shipped, populations=moas, count=shipped.count[order], about={"segmenter": "classical"}, **picked
    )
    reference.save(path / "reference.json")
    return replace(CLASSICAL, classifier=path / "classifier.safetensors", reference=path / "reference.json")


def read(file):
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        return reader.fieldnames, list(reader)


def test_every_image_has_a_row_with_its_measures(folder, config, capsys):
    path, images, table = folder
    score_folder(config)
    columns, rows = read(config.output_dir / "measures.csv")
    assert columns == COLUMNS
    assert [row["sample_key"] for row in rows] == [row[1] for row in table]
    assert [(row["compound"], row["moa"], row["state"]) for row in rows] == [(*row[4:6], str(row[6])) for row in table]
    stored = build_folder(path, FolderConfig(), None, unseen=None).images(torch.arange(N))
    torch.testing.assert_close(stored, images, rtol=0, atol=1e-5)
    for name, values in measure(ClassicalSegmenter()(stored)).items():
        for row, value in zip(rows, values.tolist(), strict=True):
            assert (row[name] == "") if np.isnan(value) else float(row[name]) == pytest.approx(value, rel=1e-5)
    black = rows[-1]
    assert black["nucleus_count"] == black["cell_count"] == "0"
    assert black["roundness"] == black["containment"] == black["nucleus_area_max"] == black["moa_probability"] == ""
    printed = capsys.readouterr().out
    assert "90.00% of the images have a nucleus" in printed
    assert all(row[5] in printed for row in table)
    sheet = np.asarray(Image.open(config.output_dir / "contact_sheet.png"))
    assert sheet.shape[0] >= 2 * 192 and sheet.shape[1] >= 8 * 192  # ten cells, eight in a row, enlarged twice
    assert (sheet == (255, 255, 255)).all(2).sum() > 500  # nuclei in white


def test_limit_draws_the_same_images_for_the_same_seed(config, tmp_path):
    keys = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        score_folder(replace(config, output_dir=tmp_path / name, limit=3, seed=seed))
        keys.append([row["sample_key"] for row in read(tmp_path / name / "measures.csv")[1]])
    assert len(keys[0]) == 3 and keys[0] == keys[1] != keys[2]


def test_ids_are_translated_by_name():
    ids = translate_ids(torch.tensor([0, 1, 2, -1]), ("a", "b", "c"), ("c", "x", "a"))
    assert ids.tolist() == [2, -1, 0, -1]


def test_the_probability_is_that_of_the_true_mechanism_by_its_name(folder, config, models):
    """Controls, and mechanisms that the classifier does not know, have none."""
    score_folder(replace(config, reward=replace(models, reference=None)))
    columns, rows = read(config.output_dir / "measures.csv")
    assert columns == COLUMNS
    classifier = MoAClassifier.from_pretrained(models.classifier)
    with torch.no_grad():
        expected = classifier((folder[1] * 127.5 + 127.5).round() / 127.5 - 1).softmax(1)
    known = 0
    for row, probability in zip(rows, expected, strict=True):
        if row["moa"] in classifier.moas:
            known += 1
            own = probability[classifier.moas.index(row["moa"])].item()
            assert float(row["moa_probability"]) == pytest.approx(own, rel=1e-3)
        else:
            assert row["moa_probability"] == ""
    assert 0 < known <= TREATED


def test_the_suite_is_scored_with_its_models_and_own_rewards_always(config, models, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def bright(images):\n    return images.mean((1, 2, 3))\n\n\ndef which(images, moa):\n    return moa.float()\n"
    )
    terms = tuple(f"{name}={tmp_path / 'mine.py'}:{name}" for name in ("bright", "which"))
    score_folder(replace(config, reward=replace(CLASSICAL, terms=terms)))
    columns, own = read(config.output_dir / "measures.csv")
    assert columns == [*COLUMNS, "reward_bright", "reward_which"]
    assert all(row["reward_bright"] for row in own)
    assert [row["reward_which"] != "" for row in own] == TREATED * [True] + (N - TREATED) * [False]

    score_folder(replace(config, output_dir=tmp_path / "all", reward=replace(models, terms=terms)))
    columns, rows = read(tmp_path / "all" / "measures.csv")
    names = [f"reward_{spec.name}" for spec in SUITE]
    assert columns == [*COLUMNS, *names, "reward_bright", "reward_which"]
    reference = Reference.load(models.reference)
    for row in rows:
        assert row["reward_bright"] == own[rows.index(row)]["reward_bright"]
        is_known = row["moa"] in reference.populations
        assert row["reward_which"] == (f"{reference.populations.index(row['moa'])}" if is_known else "")
        for spec in SUITE:  # those of a measure compare with images of the same mechanism
            if spec.measure is not None and is_known and row[spec.measure]:
                moa = torch.tensor([reference.populations.index(row["moa"])])
                z = reference.zscore(spec.measure, torch.tensor([float(row[spec.measure])]), moa)
                expected = -(min(abs(z.item()), 5) ** 2)
                assert float(row[f"reward_{spec.name}"]) == pytest.approx(expected, rel=1e-3, abs=1e-4)
            elif spec.measure is not None and not is_known:
                assert row[f"reward_{spec.name}"] == ""


def test_the_classifier_scores_its_own_ids_beside_a_reference_by_compound(folder, config, models, data, tmp_path):
    replace(reference_by_compound(data), about={"segmenter": "classical"}).save(tmp_path / "r.json")
    score_folder(replace(config, reward=replace(models, reference=tmp_path / "r.json")))
    rows = read(config.output_dir / "measures.csv")[1]
    assert [row["reward_moa"] for row in rows] == [row["moa_probability"] for row in rows]
    assert any(row["reward_moa"] for row in rows)


def test_measures_and_rewards_share_the_masks(folder, config, models, monkeypatch):
    calls = []
    segment = ClassicalSegmenter.__call__
    monkeypatch.setattr(ClassicalSegmenter, "__call__", lambda self, *args: calls.append(args) or segment(self, *args))
    cells = build_folder(folder[0], FolderConfig(), None, unseen=None)
    FolderScorer(replace(config, reward=models), cells)(torch.arange(4))
    assert len(calls) == 1


def test_bad_input_writes_nothing(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="df_all"):
        score_folder(replace(config, folder=tmp_path))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        score_folder(replace(config, reward=replace(CLASSICAL, classifier=tmp_path / "x")))
    assert not config.output_dir.exists()


def test_the_estimate_scales_with_the_images(config, monkeypatch):
    monkeypatch.setattr(scoring, "seconds_of", lambda work: 1.0)  # of a batch
    config = replace(config, batch_size=2)
    assert estimate_scoring(config)[:2] == (0, N / 2)
    assert estimate_scoring(replace(config, limit=4)).seconds == 2
