"""The whole path of docs/real_data.md, in small: all is trained on a folder, and its own judges are used."""

import json
from dataclasses import replace

import pytest
import torch
from folder_toys import write_folder

from cellenv.data.imaging import ImagingCells
from cellenv.data.synthetic import SyntheticCells
from cellenv.networks import PRESETS, UNetConfig
from rewards import cellflux_rewards


@pytest.fixture
def folder(tmp_path):
    """Held-out compounds alone: six mechanisms to train on; two to test on, with a single control in each batch."""
    data = SyntheticCells("test", unseen=True)
    data.conditions = data.conditions[:, :8]  # unlike the embedded world's
    of_moa = data.compound_moa[data.perturbation[data.treated]]
    each = [data.treated[of_moa == m] for m in of_moa.unique()]
    train = torch.cat([*(rows[:6] for rows in each), data.controls[:4]])
    test = torch.cat([each[0][6:10], each[1][6:8], data.controls[4:6]])
    rows = torch.cat([train, test])
    write_folder(tmp_path / "cells", data, rows, data.images(rows), train=len(train))
    return tmp_path / "cells"


def test_the_whole_path(folder, tmp_path, monkeypatch, request, capsys):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    tiny = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    monkeypatch.setitem(PRESETS, "embedded", tiny)
    import evaluate
    import fit_reference
    import post_training
    import train_base
    import train_classifier
    import train_nft

    cells = {"data": folder, "include_unseen": True}
    quick = {"threads": 1, "mixed_precision": "no"}
    with torch.random.fork_rng():
        for model in ("classifier", "judge"):
            train_classifier.main(train_classifier.Config(**cells, model=model, epochs=1, output_dir=tmp_path))
        seen = cells | {"segmenter": "classical"}
        fit_reference.main(fit_reference.Config(**seen, min_cells=2, output=tmp_path / "reference.json"))
        train_base.main(replace(train_base.PRESETS["smoke"], **cells, **quick, output_dir=tmp_path / "base"))

        own = {name: tmp_path / f"{name}.safetensors" for name in ("classifier", "judge")}
        own |= seen | {"reference": tmp_path / "reference.json"}
        base = tmp_path / "base" / "generator-000004"
        setups, suites, build = [], [], train_nft.build
        monkeypatch.setattr(train_nft, "build", lambda setup: setups.append(setup) or build(setup))
        monkeypatch.setattr(post_training, "cellflux_rewards", lambda **s: suites.append(s) or cellflux_rewards(**s))
        run = {"generator": str(base), "output_dir": tmp_path / "nft", "trackers": ()}
        train_nft.main(replace(train_nft.PRESETS["smoke"], **own, **quick, **run))
    evaluate.main(evaluate.Config(**own, base=str(base), model=(f"{tmp_path / 'nft' / 'model'}",), output_dir=tmp_path))

    (setup,), (suite,) = setups, suites
    assert setup.data.keys == ImagingCells(folder, "train", unseen=None).keys
    assert len(suite["classifier"].moas) == 6 and suite["reference"].about["segmenter"] == "classical"
    tested = json.loads((tmp_path / "classifier.json").read_text())["training"]["test_accuracy_per_moa"]
    assert sum(accuracy is None for accuracy in tested.values()) == 4  # the others have no image in the test split
    ended, again = (json.loads((place / "evaluation.json").read_text()) for place in (tmp_path / "nft", tmp_path))
    assert ended["rows"] == again["rows"] and list(again["rows"]) == ["base", "rl", "real"]
    assert again["rows"]["rl"]["n_contexts"] == 3  # of 16: six test images
    assert (tmp_path / "nft" / "samples" / "000002.png").exists()
