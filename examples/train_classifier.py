"""Train a classifier of mechanisms of action (MoA) on real treated images: the rewarding one, or the judge.

The two differ in architecture, augmentation and seed. The temperature is fitted on the validation split; accuracy,
calibration error and the confusion matrix are those of the test split.

    python examples/train_classifier.py --model classifier --seed 0 --weights rewards/assets/classifier.safetensors
    python examples/train_classifier.py --model judge --seed 1 --lr 1e-3 --weights rewards/assets/judge.safetensors
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse
from options import Cells


@dataclass(frozen=True, kw_only=True)
class Config(Cells):
    model: Literal["classifier", "judge"] = "classifier"
    output_dir: Path = Path("runs/classifier")  # confusion matrix, and the weights if they have no other place
    weights: Path | None = None  # a .safetensors file; its JSON is written beside it
    epochs: int = 16
    batch: int = 64  # images per step
    lr: float = 2e-3  # peak; warm-up and cosine
    weight_decay: float = 0.02
    limit: int | None = None  # images of each split, drawn at random; all when None
    seed: int = 0


PRESETS = {"default": Config(), "smoke": Config(epochs=1, batch=16, limit=48)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import shlex
import sys

import torch
from loading import check_labelled, load_cells
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, grid_sample, pad
from tqdm import tqdm

from cellenv.data.cells import CellData
from rewards.classifier import Classifier, MoAClassifier
from rewards.judge import JudgeClassifier

MODELS = {"classifier": MoAClassifier, "judge": JudgeClassifier}
Rows = tuple[CellData, Tensor]  # a data set, and some of its treated rows


def load_splits(config: Config, rng: torch.Generator) -> dict[str, Rows]:
    """Treated rows to train on, to fit the temperature on, and to test on."""
    train, test = (load_cells(config, split) for split in ("train", "test"))
    check_labelled(train)
    if config.data is None:
        data = {"train": train, "validation": load_cells(config, "validation"), "test": test}
        rows = {split: cells.treated for split, cells in data.items()}
    else:  # a folder has no validation split: every tenth treated image of the train split, in the order of MoAs
        data = {"train": train, "validation": train, "test": test}
        ordered = train.treated[moa_of(train, train.treated).argsort(stable=True)]
        tenth = torch.arange(len(ordered)) % 10 == 9
        rows = {"train": ordered[~tenth], "validation": ordered[tenth], "test": test.treated}
    if empty := [split for split, chosen in rows.items() if not len(chosen)]:
        raise ValueError(
            f"no treated image for {', '.join(empty)}: need ten in the train split, of which one fits the temperature,"
            " and one in the test split; --include-unseen may add some"
        )
    return {k: (data[k], r[torch.randperm(len(r), generator=rng)[: config.limit]]) for k, r in rows.items()}


def moa_of(data: CellData, rows: Tensor) -> Tensor:
    """MoA ids of treated rows."""
    return data.compound_moa[data.perturbation[rows]]


def turn(x: Tensor) -> Tensor:
    """Each image in one of the eight orientations of a square."""
    out = torch.empty_like(x)
    which = torch.randint(8, (len(x),))
    for k in range(8):
        turned = x[which == k].rot90(k % 4, (2, 3))
        out[which == k] = turned.flip(3) if k >= 4 else turned
    return out


def augment_classifier(x: Tensor) -> Tensor:
    """Orientation; gain in [0.8, 1.2] of each channel above black; half of the batches blurred, sigma 0 to 1.2 px."""
    x = turn(x)
    gain = 0.8 + 0.4 * torch.rand(*x.shape[:2], 1, 1)
    x = ((x + 1) * gain - 1).clamp(-1, 1)
    return blur(x, 1.2 * float(torch.rand(()))) if torch.rand(()) < 0.5 else x


def augment_judge(x: Tensor) -> Tensor:
    """Orientation; zoom in [0.9, 1.1], shift up to 6 %; gamma in [0.7, 1.4] of each channel; noise up to 0.05."""
    x = turn(x)
    zoom, shift = 0.9 + 0.2 * torch.rand(len(x)), 0.24 * torch.rand(len(x), 2) - 0.12
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = zoom, zoom, shift
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gamma = 2 ** (torch.rand(*x.shape[:2], 1, 1) - 0.5)
    x = 2 * ((x + 1) / 2).clamp(1e-4, 1) ** gamma - 1
    return (x + 0.05 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)).clamp(-1, 1)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, sigma in px."""
    kernel = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * max(sigma, 0.1) ** 2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, 9)
    x = conv2d(pad(x, (4, 4, 0, 0), mode="reflect"), kernel, groups=x.shape[1])
    return conv2d(pad(x, (0, 0, 4, 4), mode="reflect"), kernel.transpose(2, 3), groups=x.shape[1])


def train(model: Classifier, data: CellData, rows: Tensor, config: Config, device: torch.device) -> None:
    """Cross-entropy on augmented images, AdamW, one cycle of the learning rate."""
    augment = augment_classifier if config.model == "classifier" else augment_judge
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    steps = config.epochs * -(-len(rows) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps + 1, pct_start=0.1)
    model.train()
    with tqdm(total=steps, desc=config.model, smoothing=0.02) as bar:
        for _ in range(config.epochs):
            for chosen in rows[torch.randperm(len(rows))].split(config.batch):
                x, moa = augment(data.images(chosen)).to(device), moa_of(data, chosen).to(device)
                logits = model(x)
                loss = cross_entropy(logits, moa)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}", accuracy=f"{(logits.argmax(1) == moa).float().mean():.2f}")
    model.eval()


@torch.no_grad()
def predict(model: Classifier, data: CellData, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (N, M) and true MoA ids (N,) of the rows."""
    logits = [model(data.images(chosen).to(device)).cpu() for chosen in rows.split(256)]
    return torch.cat(logits), moa_of(data, rows)


def fit_temperature(logits: Tensor, moa: Tensor) -> float:
    """The T that minimises the cross-entropy of logits / T, to 1 %."""
    candidates = 10 ** torch.linspace(-1, 1, 461)
    return float(candidates[torch.stack([cross_entropy(logits / T, moa) for T in candidates]).argmin()])


def calibration_error(logits: Tensor, moa: Tensor, bins: int = 15) -> float:
    """ECE: over bins of confidence, sum of share * |accuracy - mean confidence| (Guo et al., arXiv:1706.04599)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    which = (confidence * bins).long().clamp(max=bins - 1)  # (N,)
    excess = torch.bincount(which, (predicted == moa).double() - confidence, minlength=bins)
    return float(excess.abs().sum() / len(moa))


def confusion_matrix(logits: Tensor, moa: Tensor) -> Tensor:
    """Images of true MoA i (row) taken for j (column), (M, M)."""
    m = logits.shape[1]
    return torch.bincount(moa * m + logits.argmax(1), minlength=m * m).reshape(m, m)


def draw_confusion(confusion: Tensor, moas: tuple[str, ...], file: Path) -> None:
    """Rows: true MoA and its images; columns: predicted; shares of a row, none of a MoA without images."""
    count = confusion.sum(1, keepdim=True)
    share = confusion / count.clamp(min=1)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(moas)), moas, rotation=60, ha="right")
    axes.set_yticks(range(len(moas)), [f"{moa} ({n})" for moa, n in zip(moas, count.flatten().tolist())])
    axes.set(xlabel="predicted", ylabel="true")
    for (i, j), value in [((i, j), float(share[i, j])) for i in range(len(moas)) for j in range(len(moas))]:
        if value >= 0.005:
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black", size=8)
    figure.savefig(file, dpi=100)


def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    splits = load_splits(config, torch.Generator().manual_seed(config.seed))
    data, rows = splits["train"]
    model = MODELS[config.model](data.moas, size=data.size, channels=data.channels).to(device)

    train(model, data, rows, config, device)
    model.temperature.fill_(fit_temperature(*predict(model, *splits["validation"], device)))
    logits, moa = predict(model, *splits["test"], device)
    accuracy = float((logits.argmax(1) == moa).float().mean())
    ece = calibration_error(logits, moa)
    print(f"test accuracy {accuracy:.3f}, ECE {ece:.3f}, temperature {float(model.temperature):.2f}, {len(moa)} images")

    config.output_dir.mkdir(parents=True, exist_ok=True)
    confusion = confusion_matrix(logits, moa)
    draw_confusion(confusion, model.moas, config.output_dir / f"{config.model}_confusion.png")
    training = {
        "command": f"python {shlex.join(sys.argv)}",
        "data": "SyntheticCells" if config.data is None else config.data.name,
        "seed": config.seed,
        "epochs": config.epochs,
        "train_images": len(rows),
        "test_images": len(moa),
        "test_accuracy": round(accuracy, 4),
        "test_ece": round(ece, 4),
        "test_accuracy_per_moa": {
            name: round(float(confusion[m, m] / confusion[m].sum()), 3) if confusion[m].any() else None
            for m, name in enumerate(model.moas)
        },
    }
    weights = config.weights or config.output_dir / f"{config.model}.safetensors"
    model.save_pretrained(weights, training)
    print(f"wrote {weights} and {config.output_dir / f'{config.model}_confusion.png'}")


if __name__ == "__main__":
    main(CONFIG)
