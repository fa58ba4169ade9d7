import io
import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from folder_toys import write_folder
from rich.console import Console
from torch import nn

from algorithms.evaluation import Rulers, assess
from algorithms.verdict import REWARDS
from cellenv.data.imaging import BBBC021_UNSEEN, ImagingCells
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNetConfig
from rewards import JudgeClassifier, MoAClassifier, Reference
from rewards.measures import measure
from rewards.segmentation import ClassicalSegmenter

CONTEXTS, GROUP = 9, 2


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import evaluate

    return evaluate


class Brighten(nn.Module):
    """v = gain (1 + mean of the condition)."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x_t, t, condition):
        return self.gain * (1 + condition.mean(1)).reshape(-1, 1, 1, 1).expand_as(x_t)


def generator(data: SyntheticCells, gain: float) -> CellFlux:
    config = UNetConfig(size=data.size, condition_dim=data.conditions.shape[1])
    return CellFlux(Brighten(gain), config, Sampling(steps=1, solver="euler", noise_level=0.1))


class Watch:
    """Rulers that remember what they measured; every value is a mean brightness."""

    def __init__(self, moas: int):
        self.scored, self.measured = [], []
        self.rulers = Rulers(
            score=self.score,
            judge=lambda images: (torch.ones(len(images), moas) / moas, images.mean((2, 3))),
            judge_containment=lambda images: images.mean((1, 2, 3)),
            measure=self.measure,
            sigma={"size": torch.ones(moas)},
        )

    def score(self, images, contexts):
        self.scored.append((images, contexts))
        return {"total": images.mean((1, 2, 3))}

    def measure(self, images):
        self.measured.append(images)
        return {"size": images.std((1, 2, 3))}


def run(script, models, data, folder, **options) -> tuple[dict, Watch]:
    watch = Watch(len(data.moas))
    quiet = Console(file=io.StringIO())
    settings = {"contexts": CONTEXTS, "group_size": GROUP, "batch_size": 8, "console": quiet} | options
    return script.evaluate_run(models, data, folder, rulers=watch.rulers, **settings), watch


def test_equal_generators_draw_equal_images_and_both_files_are_written(script, data, tmp_path):
    models = {"base": generator(data, 0.1), "rl": generator(data, 0.1), "zero-reward": generator(data, 0.3)}
    evaluation, _ = run(script, models, data, tmp_path, config={"preset": "default"})
    assert list(evaluation["rows"]) == ["base", "rl", "zero-reward", "real"]
    assert evaluation["paired"]["rl-base"]["total"] == {"mean": 0, "ci": [0, 0]}
    assert evaluation["paired"]["zero-reward-base"]["total"]["ci"][0] > 0
    assert evaluation["rows"]["base"]["diversity"] > 0  # the noise inside a group differs
    assert evaluation["config"] == evaluation["config"] | {"preset": "default", "contexts": CONTEXTS, "seed": 0}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    html = (tmp_path / "evaluation.html").read_text()
    assert html.count("<figcaption>control") == len({text for text in data.moas if f"<h3>{text}" in html}) > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.html", "evaluation.json"]


def test_real_row_is_the_images_behind_the_contexts_and_the_reference_is_none_of_them(
    script, data, tmp_path, monkeypatch
):
    drawn, images = {}, data.images  # row by pixels, of all images that were asked for

    def noted(rows):
        drawn.update((image.numpy().tobytes(), row) for row, image in zip(rows.tolist(), images(rows), strict=True))
        return images(rows)

    monkeypatch.setattr(data, "images", noted)
    _, watch = run(script, {"base": generator(data, 0.1)}, data, tmp_path, batch_size=64)
    (base, _), (real, contexts) = watch.scored
    reference = watch.measured[0]
    assert len(base) == CONTEXTS * GROUP and len(real) == len(reference) == CONTEXTS
    rows, twins = (torch.tensor([drawn[image.numpy().tobytes()] for image in images]) for images in (real, reference))
    assert len(set(rows.tolist()) | set(twins.tolist())) == 2 * CONTEXTS
    assert data.perturbation[rows].equal(data.perturbation[twins])
    assert data.perturbation[rows].equal(contexts["perturbation"]) and data.batch[rows].equal(contexts["batch"])


def test_a_folder_of_what_a_generator_drew_is_its_row_up_to_rounding(script, data, save_base, tmp_path, monkeypatch):
    import generate
    from image_folder import ImageFolder

    model = CellFlux.from_pretrained(save_base(Sampling(steps=1)))
    watch = Watch(len(data.moas))
    flags = {"contexts": CONTEXTS, "group_size": GROUP, "seed": 3, "batch_size": 5}
    generate.main(generate.Config(generator=str(tmp_path / "base"), output_dir=tmp_path / "images", **flags))
    with pytest.raises(FileExistsError, match="holds images already"):
        generate.main(generate.Config(generator="nowhere", output_dir=tmp_path / "images"))  # before anything else
    quiet, folders = Console(file=io.StringIO()), {"written": ImageFolder.read(tmp_path / "images", data)}
    models = {"base": generator(data, 0.1), "model": model}
    found = script.evaluate_run(
        models, data, tmp_path, rulers=watch.rulers, folders=folders, console=quiet, **flags | {"batch_size": 64}
    )
    _, (drawn, contexts), (read, same), _ = watch.scored
    assert 0 < (drawn - read).abs().max() <= 0.5001 / 127.5
    assert all(contexts[key].equal(same[key]) for key in ("perturbation", "x0", "seed"))
    for name in ("total", "judge_containment"):
        own, other = found["rows"]["model"][name], found["rows"]["written"][name]
        assert other["mean"] == pytest.approx(own["mean"], abs=1e-3)
        assert other["ci"] == pytest.approx(own["ci"], abs=1e-3)
        assert found["paired"]["written-base"][name]["mean"] == pytest.approx(
            other["mean"] - found["rows"]["base"][name]["mean"]
        )
    for name in ("frechet", "diversity", "w1_size", "n_contexts"):
        assert found["rows"]["written"][name] == pytest.approx(found["rows"]["model"][name], rel=0.02)
    html = (tmp_path / "evaluation.html").read_text()
    assert "model: what it had to reach" in html and "written: what it had to reach" not in html
    assert "written</figcaption>" in html and "own context" not in html


def test_a_folder_on_other_contexts_is_a_row_without_a_pair(script, data, save_base, tmp_path):
    import generate
    from image_folder import ImageFolder

    flags = {"generator": str(save_base(Sampling(steps=1))), "output_dir": tmp_path / "images"}
    generate.main(generate.Config(contexts=CONTEXTS + 3, group_size=1, **flags))
    folders = {"other": ImageFolder.read(tmp_path / "images", data)}
    found, watch = run(script, {"base": generator(data, 0.1)}, data, tmp_path, batch_size=64, folders=folders)
    assert list(found["rows"]) == ["base", "real", "other"] and set(found["paired"]) == {"real-base"}
    row, (images, contexts) = found["rows"]["other"], watch.scored[-1]
    assert row["n_contexts"] == CONTEXTS + 3 and row["total"]["mean"] == pytest.approx(images.mean().item(), abs=1e-6)
    assert row["total"]["ci"][0] < row["total"]["mean"] < row["total"]["ci"][1] and row["frechet"] > 0
    assert row["diversity"] is None and len(watch.measured[-2]) == len(contexts) == CONTEXTS + 3
    assert "On contexts of its own: other (12)." in (tmp_path / "evaluation.html").read_text()


def test_another_seed_takes_other_contexts(script, data, tmp_path):
    models = {"base": generator(data, 0.1)}
    totals = [run(script, models, data, tmp_path, seed=seed)[0]["rows"]["real"]["total"]["mean"] for seed in (0, 0, 1)]
    assert totals[0] == totals[1] != totals[2]


def test_rows_need_a_base_and_leave_real_alone(script, data, tmp_path):
    with pytest.raises(ValueError, match="need a generator 'base' and none called 'real'; got rl"):
        run(script, {"rl": generator(data, 0.1)}, data, tmp_path)
    with pytest.raises(ValueError, match="none called 'real'"):
        run(script, {"base": generator(data, 0.1), "real": generator(data, 0.1)}, data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_masks_are_made_once_for_the_same_images_and_anew_for_others(script):
    calls = []
    remember = script.Remember(lambda images, channels: calls.append(images) or len(calls))
    images = torch.zeros(2, 3, 4, 4)
    assert [remember(images), remember(images.reshape(-1, 3, 4, 4)), len(calls)] == [1, 1, 1]
    assert remember(images[:1]) == 2
    for expected in range(3, 30):  # memory that was given back must not pass for the same images
        assert remember(torch.full((2, 3, 4, 4), float(expected))) == expected


def test_models_are_named_on_the_command_line(script):
    assert script.named("rl=runs/nft") == ("rl", "runs/nft")
    assert script.named("runs/nft") == ("rl", "runs/nft")
    config = script.parse(script.PRESETS, None, ["--model", "rl=a", "--model", "zero-reward=b", "--preset", "smoke"])
    assert config.model == ("rl=a", "zero-reward=b") and config.contexts == 12
    for flags in (["--model", "a", "--model", "b"], ["--model", "rl=a", "--images", "rl=b"], ["--images", "b"]):
        with pytest.raises(ValueError, match="another NAME for each --model"):
            script.main(script.parse(script.PRESETS, None, flags))


@pytest.fixture
def embedded(script, data) -> Rulers:
    return script.make_rulers(data)


def test_embedded_rulers_agree_that_real_cells_are_real(embedded, data):
    rows = data.treated[::20]
    contexts = data.contexts(rows, torch.Generator().manual_seed(0))
    values = assess(data.images(rows).unsqueeze(1), contexts, embedded)
    assert list(values["interval"].keys()) == ["total", *REWARDS, "judge_moa", "judge_containment"]
    weights = torch.tensor([5.0, 2.0, 1, 1, 1, 1, 1])
    weighted = sum(w * values["interval", name] for w, name in zip(weights, REWARDS, strict=True))
    torch.testing.assert_close(values["interval", "total"], weighted)
    for name, least in {"moa": 0.75, "judge_moa": 0.7, "containment": 0.9, "judge_containment": 0.9}.items():
        assert values["interval", name].mean() > least
    assert values["right"].double().mean() > 0.75
    assert (values["measure", "nucleus_size"] < values["measure", "cell_size"]).double().mean() > 0.9
    assert set(values["measure"].keys()) == set(embedded.sigma) == set(REWARDS) - {"moa", "containment"}


def test_a_foreign_nucleus_is_seen_by_the_reward_and_by_the_judge(embedded, data):
    rows = data.treated[::20]
    contexts = data.contexts(rows, torch.Generator().manual_seed(0))
    dna, spoilt = data.channels.index("DNA"), data.images(rows)
    spoilt[:, dna] = spoilt[:, dna].roll((40, 40), (1, 2))
    values = assess(spoilt.unsqueeze(1), contexts, embedded)["interval"]
    black = assess(-torch.ones_like(spoilt[:4]).unsqueeze(1), contexts[:4], embedded)["interval"]
    assert (black["containment"] == 0).all() and (black["judge_containment"] == 0).all()  # no nucleus, no praise
    assert values["containment"].mean() < 0.75 and values["judge_containment"].mean() < 0.75


def test_rewards_and_measures_see_through_the_segmenter_that_is_given(script, embedded, data):
    rulers, rows = script.make_rulers(data, segmenter=ClassicalSegmenter()), data.treated[::200]
    images, contexts = data.images(rows), data.contexts(rows, torch.Generator().manual_seed(0))
    expected = measure(ClassicalSegmenter()(images))
    assert rulers.measure(images)["cell_size"].equal(expected["cell_area_max"])
    torch.testing.assert_close(rulers.score(images, contexts)["containment"].flatten(), expected["containment"])
    assert not embedded.measure(images)["cell_size"].equal(expected["cell_area_max"])


def test_weights_of_another_world_are_refused(script, data, monkeypatch):
    monkeypatch.setattr(type(data), "moas", ("one", "two"))
    with pytest.raises(ValueError, match=r"the judge knows the MoAs .*; the data have \('one', 'two'\)"):
        script.make_rulers(data)


@pytest.fixture
def other_cells(data, tmp_path):
    """A folder with the MoAs of the embedded world, of other cells for all that names say; their weights by flag."""
    seen = [p for p, name in enumerate(data.compounds) if name not in BBBC021_UNSEEN]
    first = {int(data.compound_moa[p]): p for p in reversed(seen)}.values()
    treated = torch.cat([(data.perturbation == p).nonzero().flatten()[:2] for p in first])
    rows = torch.cat([treated, data.controls[:4]])
    write_folder(tmp_path / "cells", data, rows, data.images(rows))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {"classifier": MoAClassifier(data.moas), "judge": JudgeClassifier(data.moas)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / f"{name}.safetensors")
    reference = Reference.load()
    replace(reference, std={name: 2 * std for name, std in reference.std.items()}).save(tmp_path / "reference.json")
    own = {name: tmp_path / f"{name}.safetensors" for name in models} | {"reference": tmp_path / "reference.json"}
    return tmp_path / "cells", own


NEEDED = ("classifier", "judge", "reference")


@pytest.mark.parametrize("given", [names for k in range(3) for names in combinations(NEEDED, k)])
def test_other_cells_are_refused_without_their_own_weights(script, other_cells, given):
    folder, own = other_cells
    assert ImagingCells(folder, "test").moas == SyntheticCells.moas  # names do not tell the two worlds apart
    missing = ", ".join(f"--{name}" for name in NEEDED if name not in given)
    with pytest.raises(ValueError, match=f"--data needs {missing} too"):
        script.main(script.Config(data=folder, **{name: own[name] for name in given}))


def test_other_cells_are_measured_by_their_own_weights(script, other_cells, save_base, data, monkeypatch):
    folder, own = other_cells
    calls = []
    monkeypatch.setattr(script, "evaluate_run", lambda models, cells, out, **options: calls.append((cells, options)))
    script.main(script.Config(base=str(save_base(Sampling(steps=1))), data=folder, **own))
    ((cells, options),) = calls
    assert cells.path == folder and options["contexts"] == len(data.moas)
    rulers, rows = options["rulers"], cells.treated[:5]
    images, contexts = cells.images(rows), cells.contexts(rows, torch.Generator().manual_seed(0))
    classifier, judge = (
        model.from_pretrained(own[name]) for model, name in ((MoAClassifier, "classifier"), (JudgeClassifier, "judge"))
    )
    with torch.no_grad():
        probability = classifier(images).softmax(1)[torch.arange(5), contexts["moa"]]
        torch.testing.assert_close(rulers.score(images, contexts)["moa"].flatten(), probability)
        torch.testing.assert_close(rulers.judge(images)[0], judge(images).softmax(1))
    assert rulers.sigma["roundness"].equal(Reference.load(own["reference"]).sigma("roundness"))
