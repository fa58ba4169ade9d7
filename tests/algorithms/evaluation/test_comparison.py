import base64
import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from algorithms.config import DataConfig
from algorithms.evaluation import comparison, generate
from algorithms.evaluation.comparison import (
    Comparison,
    collect_cells,
    draw_pictures,
    evaluate_alone,
    evaluate_models,
    held_out_cells,
    sampled_row,
)
from algorithms.evaluation.evaluated_cells import EvaluatedCells
from algorithms.evaluation.generate import GenerateConfig
from algorithms.evaluation.held_out import count_pairs, held_out
from algorithms.evaluation.image_folder import ImageFolder
from algorithms.evaluation.measurement import Row, measure_row
from algorithms.evaluation.metrics import EvaluationOptions
from algorithms.evaluation.pages.outlines import area_path, outline_path
from algorithms.evaluation.samplers import add_sampler_rows
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux, Sampling
from cellenv.pictures import composite
from rewards.segmentation import Masks
from tests.algorithms.evaluation.evaluation_toys import BrightnessEvaluator, generator
from tests.folder_toys import write_folder

CONTEXTS, GROUP = 9, 2


def run(models, data, folder, *, batch_size=8, seed=0, **more) -> tuple[dict, BrightnessEvaluator]:
    toy = BrightnessEvaluator(len(data.moas))
    options = Comparison(contexts=CONTEXTS, group_size=GROUP, batch_size=batch_size, seed=seed)
    return evaluate_models(models, data, folder, evaluator=toy.evaluator, options=options, **more), toy


def test_equal_generators_draw_equal_images_and_both_files_are_written(data, tmp_path, capsys):
    models = {"base": generator(data, 0.1), "rl": generator(data, 0.1), "zero-reward": generator(data, 0.3)}
    evaluation, _ = run(models, data, tmp_path, config={"preset": "default", "seed": 7})  # 7: of a training
    assert list(evaluation["rows"]) == ["base", "rl", "zero-reward", "real"]
    assert evaluation["paired"]["rl-base"]["total"] == {"mean": 0, "ci": [0, 0]}
    assert evaluation["paired"]["zero-reward-base"]["total"]["ci"][0] > 0
    assert evaluation["rows"]["base"]["diversity"] > 0  # the noise inside a group differs
    weights = evaluation["weights"]
    assert list(weights) == [*models] and weights["base"] == weights["rl"] != weights["zero-reward"]
    assert evaluation["config"] == evaluation["config"] | {"preset": "default", "contexts": CONTEXTS, "seed": 0}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    html = (tmp_path / "evaluation.html").read_text()
    shown = EvaluatedCells.load(tmp_path / "evaluation_cells.json").shown
    assert html.count('<article class="card') == sum(len(context.groups) for context in shown) > 3
    names = ["evaluation.html", "evaluation.json", "evaluation_cells.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert f"Evaluation on {CONTEXTS} held-out contexts" in capsys.readouterr().out


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("share", ["one image", "all"])
def test_what_cannot_be_scored_costs_no_evaluation(value, share, data, tmp_path):
    """Undefined figures are None in the file and a dash in the report, and the others stand."""
    toy = BrightnessEvaluator(len(data.moas))

    def spoiled(values, images):
        values, chosen = values.clone(), slice(None) if share == "all" else slice(0, len(images) == CONTEXTS)  # real
        values[chosen] = value
        return values

    evaluator = replace(
        toy.evaluator,
        score=lambda images, contexts: {k: spoiled(v, images) for k, v in toy.score(images, contexts).items()},
        judge_scores=lambda images, contexts: {
            k: spoiled(v, images) for k, v in toy.judge_scores(images, contexts).items()
        },
        measure=lambda images: {k: spoiled(v, images) for k, v in toy.measure(images).items()},
    )
    models = {"base": generator(data, 0.0), "rl": generator(data, 0.1)}
    options = Comparison(contexts=CONTEXTS, group_size=GROUP)
    evaluate_models(models, data, tmp_path, evaluator=evaluator, options=options)
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert (rows["rl"]["total"]["mean"] is None) == (share == "all") and rows["rl"]["frechet"] > 0
    assert (tmp_path / "evaluation.html").is_file()


def test_real_row_is_the_images_behind_the_contexts_and_no_reference_is_among_them(data, tmp_path, monkeypatch):
    drawn, images = {}, data.images  # row by pixels, of all images that were asked for

    def noted(rows):
        drawn.update((image.numpy().tobytes(), row) for row, image in zip(rows.tolist(), images(rows), strict=True))
        return images(rows)

    monkeypatch.setattr(data, "images", noted)
    _, toy = run({"base": generator(data, 0.1)}, data, tmp_path, batch_size=64)
    (base, _), (real, contexts) = toy.scored
    reference = toy.measured[0]
    assert len(base) == CONTEXTS * GROUP and len(real) == len(reference) == CONTEXTS
    rows, others = (torch.tensor([drawn[image.numpy().tobytes()] for image in images]) for images in (real, reference))
    assert len(set(rows.tolist()) | set(others.tolist())) == 2 * CONTEXTS
    assert data.perturbation[rows].equal(data.perturbation[others])
    assert data.perturbation[rows].equal(contexts["perturbation"]) and data.plate[rows].equal(contexts["plate"])


def test_batches_do_not_change_the_samples(data):
    contexts, _, _ = held_out(data, CONTEXTS, seed=0)
    row = sampled_row(generator(data, 0.1), contexts, GROUP)
    whole, split = (row.all_images(CONTEXTS, size) for size in (64, 5))
    assert whole.shape[:2] == (CONTEXTS, GROUP) and torch.equal(whole, split)


def test_a_folder_of_what_a_generator_drew_is_its_row_up_to_rounding(data, save_base, tmp_path):
    model = CellFlux.from_pretrained(save_base(Sampling(steps=1)))
    config = GenerateConfig(
        generator=str(tmp_path / "base"),
        output_dir=tmp_path / "images",
        contexts=CONTEXTS,
        group_size=GROUP,
        seed=3,
        batch_size=5,
    )
    generate.main(config)
    models, folders = (
        {"base": generator(data, 0.1), "model": model},
        {"written": ImageFolder.read(tmp_path / "images", data)},
    )
    found, toy = run(models, data, tmp_path, seed=3, batch_size=64, folders=folders)
    _, (drawn, contexts), (read, same), _ = toy.scored
    assert 0 < (drawn - read).abs().max() <= 0.5001 / 127.5
    assert all(contexts[key].equal(same[key]) for key in ("perturbation", "x0", "seed"))
    for name in ("total", "judge_bright"):
        own, other = found["rows"]["model"][name], found["rows"]["written"][name]
        assert other["mean"] == pytest.approx(own["mean"], abs=1e-3)
        assert other["ci"] == pytest.approx(own["ci"], abs=1e-3)
        assert found["paired"]["written-base"][name]["mean"] == pytest.approx(
            other["mean"] - found["rows"]["base"][name]["mean"]
        )
    for name in ("frechet", "diversity", "w1_dark", "n_contexts"):
        assert found["rows"]["written"][name] == pytest.approx(found["rows"]["model"][name], rel=0.02)
    html = (tmp_path / "evaluation.html").read_text()
    assert "model: acceptance checks" in html and "written: acceptance checks" not in html
    assert 'alt="written, ' in html and "contexts of its own" not in html


def test_a_folder_on_other_contexts_is_a_row_without_a_pair(data, save_base, tmp_path):
    base, n = str(save_base(Sampling(steps=1))), CONTEXTS + 3
    generate.main(GenerateConfig(contexts=n, group_size=1, generator=base, output_dir=tmp_path / "images"))
    folders = {"other": ImageFolder.read(tmp_path / "images", data)}
    found, toy = run({"base": generator(data, 0.1)}, data, tmp_path, batch_size=64, folders=folders)
    assert list(found["rows"]) == ["base", "real", "other"] and set(found["paired"]) == {"real-base"}
    row, (images, contexts) = found["rows"]["other"], toy.scored[-1]
    assert row["n_contexts"] == n and row["total"]["mean"] == pytest.approx(images.mean().item(), abs=1e-6)
    assert row["total"]["ci"][0] < row["total"]["mean"] < row["total"]["ci"][1] and row["frechet"] > 0
    assert row["diversity"] is None and len(toy.measured[-2]) == len(contexts) == n
    assert f"On contexts of its own: other ({n})." in (tmp_path / "evaluation.html").read_text()


def test_a_real_image_counts_once_in_the_distances_of_a_folder(data):
    """A folder of more images of a compound than there are real ones: repeated, these would look like clusters."""
    evaluator, compound = BrightnessEvaluator(len(data.moas)).evaluator, data.perturbation[data.treated[0]]
    rows = data.treated[data.perturbation[data.treated] == compound]
    contexts = data.contexts(rows, torch.Generator().manual_seed(0))
    noise = torch.rand(3 * len(rows), 1, 3, *data.size[1:], generator=torch.Generator().manual_seed(1))
    options = EvaluationOptions(baseline="theirs")
    more = evaluate_alone(noise, torch.cat(3 * [contexts]), data, evaluator, options, 64)
    once = evaluate_alone(noise[: len(rows)], contexts, data, evaluator, options, 64)
    for name in ("frechet", "kernel", "w1_dark"):
        assert more[name] == pytest.approx(once[name], rel=1e-6)
    assert more["n_contexts"] == 3 * len(rows) and more["total"]["mean"] == pytest.approx(noise.mean().item(), abs=1e-6)


def test_rows_by_another_sampler_are_compared_with_the_base_by_it(data, tmp_path, capsys):
    models = add_sampler_rows(
        {"base": generator(data, 0.1), "rl": generator(data, 0.3)},
        ["base-noisy=base:noise_level=0.3", "rl-noisy=rl:noise_level=0.3,steps=2", "rl-2=rl:noise_level=0.3"],
    )
    found, _ = run(models, data, tmp_path)
    assert set(found["paired"]) == {f"{row}-base" for row in (*models, "real") if row != "base"} | {"rl-2-base-noisy"}
    assert found["baselines"] == {"rl-2": "base-noisy"} and found["config"]["base by other samplers"] == ["base-noisy"]
    assert {row: figures.get("nfe") for row, figures in found["rows"].items()} == {
        **dict.fromkeys(("base", "base-noisy", "rl", "rl-2"), 1),
        "rl-noisy": 2,
        "real": None,
    }
    printed = capsys.readouterr().out
    assert "rl-2 − base-noisy: acceptance checks" in printed and "base-noisy: acceptance checks" not in (
        printed.replace("− base-noisy:", "")
    )


def test_the_figures_are_saved_before_anything_is_drawn(data, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no picture")

    monkeypatch.setattr(comparison, "collect_cells", fail)
    with pytest.raises(RuntimeError, match="no picture"):
        run({"base": generator(data, 0.1)}, data, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())["rows"].keys() == {"base", "real"}


def test_another_seed_takes_other_contexts(data, tmp_path):
    models = {"base": generator(data, 0.1)}
    totals = [run(models, data, tmp_path, seed=seed)[0]["rows"]["real"]["total"]["mean"] for seed in (0, 0, 1)]
    assert totals[0] == totals[1] != totals[2]


def test_rows_need_a_base_and_none_called_control_or_real(data, tmp_path):
    with pytest.raises(ValueError, match="need a generator 'base' and none called control or real; got rl"):
        run({"rl": generator(data, 0.1)}, data, tmp_path)
    for name in ("control", "real"):
        with pytest.raises(ValueError, match="none called control or real"):
            run({"base": generator(data, 0.1), name: generator(data, 0.1)}, data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pictures_and_values_are_those_of_the_rows_and_contexts(data):
    """Brightness tells the images apart: the first sample is shown, where the row is brighter than the base."""
    contexts, _, _ = held_out(data, 30, seed=0)
    toy = BrightnessEvaluator(len(data.moas))
    level = torch.linspace(-1, 0, 30).reshape(-1, 1, 1, 1, 1)
    base = level.expand(30, 2, *data.size).clone()
    base[:, 1] = 1  # a second sample, which is not shown
    rows = {"base": Row.of(base), "rl": Row.of(base + 0.5 * (level > -0.5))}
    values = {name: measure_row(row, contexts, toy.evaluator) for name, row in rows.items()}
    evaluation = {"rows": dict.fromkeys(rows), "paired": {"rl-base": {}}, "baselines": {}, "config": {"seed": 0}}
    cells = collect_cells(evaluation, values, contexts, rows, data, toy.evaluator, seed=0)
    assert cells.classes == tuple(data.class_names(contexts)) and cells.seeds == tuple(contexts["seed"].tolist())
    assert np.allclose(cells.of("base", "total")[:, 0], level.flatten(), atol=1e-4)
    gained = {c.context for c in cells.shown if "largest gain" in c.groups}
    assert gained and all(level[i] > -0.5 for i in gained)
    for context in cells.shown:
        assert list(context.pictures) == ["control", "base", "rl"]
        content = base64.b64decode(context.pictures["base"].image.partition(",")[2])
        drawn = np.asarray(Image.open(BytesIO(content))).astype(float)
        expected = composite(base[context.context, :1], data.channels)[0].astype(float)
        assert np.abs(drawn - expected).mean() < 3


def test_outlines_are_those_of_the_masks(data):
    nuclei, whole = torch.zeros(2, 1, *data.size[1:], dtype=torch.int32)
    nuclei[0, 10:20, 10:20], whole[0, 10:20, 15:40] = 1, 1
    toy = replace(BrightnessEvaluator(len(data.moas)).evaluator, segment=lambda images: Masks(nuclei, whole))
    (picture,) = draw_pictures(torch.zeros(1, *data.size), data, toy)
    assert picture.nuclei == outline_path(nuclei[0].numpy()) and picture.cells == outline_path(whole[0].numpy())
    assert picture.outside == area_path(((nuclei > 0) & (whole == 0))[0].numpy()) != ""


def test_held_out_cells_are_the_test_split_and_as_many_contexts_as_it_has(tmp_path):
    cells, contexts = held_out_cells(DataConfig(), 10**6, unseen=True)
    assert cells.split == "test" and contexts == count_pairs(cells)
    assert {cells.compounds[p] for p in cells.perturbation[cells.treated].tolist()} == {
        cells.compounds[p] for p in SyntheticCells("test", unseen=True).perturbation.tolist() if p >= 0
    }
    assert held_out_cells(DataConfig(), 7)[1] == 7
    cells = SyntheticCells("test")
    rows = torch.cat([cells.treated[:1], cells.controls[:2]])
    write_folder(tmp_path, cells, rows, torch.zeros(3, 3, 4, 4))
    with pytest.raises(ValueError, match="distances need 2: --include-unseen may add some"):
        held_out_cells(DataConfig(path=tmp_path, include_unseen=True), 7)
