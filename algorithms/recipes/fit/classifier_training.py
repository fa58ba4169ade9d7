"""Train, calibrate and test a classifier of mechanisms of action (MoA). B batch, N images, M MoAs."""

from dataclasses import replace

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from algorithms.build import build_cells, check_labelled
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.files import write_whole
from algorithms.inspection.cached import check_data
from algorithms.launch import start_processes
from algorithms.processes import map_batches, part_of
from algorithms.provenance import shell_command
from algorithms.recipes.fit.classifier import ClassifierConfig
from algorithms.recipes.fit.classifier_augmentation import augment_classifier, augment_judge
from algorithms.recipes.fit.classifier_scores import compute_scores, confusion_matrix, draw_confusion, fit_temperature
from cellenv.data.cells import CellData
from rewards.classifier import Classifier, MoAClassifier
from rewards.judge import JudgeClassifier

MODELS = {"classifier": MoAClassifier, "judge": JudgeClassifier}
AUGMENTATIONS = {"classifier": augment_classifier, "judge": augment_judge}
CHUNK = 256  # images scored at once

Split = tuple[CellData, Tensor]  # a data set, and some of its treated rows


def load_splits(config: ClassifierConfig) -> dict[str, Split]:
    """Treated rows for training ("train"), for the temperature ("validation") and for testing ("test").

    A folder has no validation split: every tenth treated image of its train split, in the order of MoAs, serves as one.

    Raises:
        ValueError: a split has no treated image, or the data have no MoAs.
    """
    train, test = (build_cells(config.data, split) for split in ("train", "test"))
    check_labelled(train)
    if config.data.path is None:
        data = {"train": train, "validation": build_cells(config.data, "validation"), "test": test}
        rows = {split: cells.treated for split, cells in data.items()}
    else:
        data = {"train": train, "validation": train, "test": test}
        ordered = train.treated[moa_of(train, train.treated).argsort(stable=True)]
        is_tenth = torch.arange(len(ordered)) % 10 == 9
        rows = {"train": ordered[~is_tenth], "validation": ordered[is_tenth], "test": test.treated}
    if empty := [split for split, chosen in rows.items() if not len(chosen)]:
        raise ValueError(
            f"no treated image for {', '.join(empty)}: need ten in the train split, of which one fits the temperature,"
            " and one in the test split; --include-unseen may add some"
        )
    rng = torch.Generator().manual_seed(config.seed)
    return {
        split: (data[split], chosen[torch.randperm(len(chosen), generator=rng)[: config.limit]])
        for split, chosen in rows.items()
    }


def moa_of(data: CellData, rows: Tensor) -> Tensor:
    """MoA ids of treated rows."""
    return data.compound_moa[data.perturbation[rows]]


def initial_classifier(
    config: ClassifierConfig, data: CellData, device: torch.device | str = "cpu"
) -> tuple[Classifier, torch.Generator]:
    """A classifier with random weights, and the random stream after they were drawn; both depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(config.seed)
        model = MODELS[config.model](data.moas, size=data.size, channels=data.channels)
        rng = torch.Generator().set_state(torch.get_rng_state())
    return model.to(device), rng


def train(model: Classifier, split: Split, config: ClassifierConfig, rng: torch.Generator) -> None:
    """Minimise the cross-entropy on augmented images with AdamW and one cycle of the learning rate."""
    data, rows = split
    lr = config.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=config.weight_decay)
    steps = count_steps(config, len(rows))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    augment, hidden = AUGMENTATIONS[config.model], not PartialState().is_main_process
    model.train()
    with tqdm(total=steps, desc=config.model, smoothing=0.02, disable=hidden) as bar:
        for _ in range(config.epochs):
            for chosen in draw_balanced(rows, moa_of(data, rows), rng).split(config.batch_size):
                loss = backward(model, augment(data.images(chosen), rng), moa_of(data, chosen))
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


def backward(model: Classifier, x: Tensor, moa: Tensor) -> Tensor:
    """The mean cross-entropy on a batch, with its gradients in the parameters, on every process.

    x (B, C, H, W) and moa (B,) are the same on all; each computes a part of them, which takes most of a step's time.
    """
    state, parameters = PartialState(), list(model.parameters())
    own = part_of(len(x), state.process_index, state.num_processes)
    loss = parameters[0].new_zeros(())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    if len(own):
        logits = model(x[own].to(loss.device))  # (own, M)
        loss = cross_entropy(logits, moa[own].to(loss.device), reduction="sum") / len(x)
        loss.backward()
    for parameter in parameters:
        parameter.grad = reduce(parameter.grad, "sum")
    total: Tensor = reduce(loss.detach(), "sum")
    return total


def draw_balanced(rows: Tensor, moa: Tensor, rng: torch.Generator) -> Tensor:
    """As many rows as there are, drawn so that every MoA among them is equally likely; each in turn while it lasts.

    rows (N,) and their moa (N,) -> (N,), in random order. A row returns once all rows of its MoA have been drawn.
    """
    present = moa.unique()
    drawn = []
    for k, count in zip(present.tolist(), _equal_parts(len(rows), len(present), rng), strict=True):
        own = rows[moa == k]
        rounds = [own[torch.randperm(len(own), generator=rng)] for _ in range(-(-count // len(own)))]
        drawn.append(torch.cat(rounds)[:count])
    mixed = torch.cat(drawn)
    return mixed[torch.randperm(len(mixed), generator=rng)]


def _equal_parts(n: int, parts: int, rng: torch.Generator) -> list[int]:
    """n as a sum of whole numbers that differ by at most 1; which are the larger ones is random."""
    larger = set(torch.randperm(parts, generator=rng)[: n % parts].tolist())
    return [n // parts + (k in larger) for k in range(parts)]


def count_steps(config: ClassifierConfig, images: int) -> int:
    """Optimizer steps of a training on so many images."""
    return config.epochs * -(-images // config.batch_size)


def predict(model: Classifier, split: Split) -> tuple[Tensor, Tensor]:
    """Logits (N, M) and true MoA ids (N,) of the rows, on the CPU of every process."""
    data, rows = split
    device = next(model.parameters()).device

    @torch.no_grad()
    def logits(chosen: Tensor) -> Tensor:
        return model(data.images(chosen).to(device)).cpu()

    return torch.cat(map_batches(logits, rows.split(CHUNK), "predict")), moa_of(data, rows)


def fit_classifier(config: ClassifierConfig) -> None:
    """Train, calibrate and test the classifier; write its weights with a record, and the confusion matrix.

    Processes share the images of every step, and those that it is calibrated and tested on; the sums of their gradients
    round as their number has it.
    """
    processes = start_processes(timeout=config.distributed.timeout)
    check_data(config.data)
    splits = load_splits(config)
    model, rng = initial_classifier(config, splits["train"][0], processes.device)
    train(model, splits["train"], config, rng)
    logits, moa = predict(model, splits["validation"])
    temperature = fit_temperature(logits, moa)
    model.get_buffer("temperature").fill_(temperature)
    logits, moa = predict(model, splits["test"])
    scores = compute_scores(logits, moa, model.moas)
    if not processes.is_main_process:
        return

    weights = config.weights or config.output_dir / f"{config.model}.safetensors"
    picture = config.output_dir / f"{config.model}_confusion.png"
    write_whole(picture, draw_confusion(confusion_matrix(logits, moa), model.moas))
    training = {
        "command": shell_command(),
        "data": "SyntheticCells" if config.data.path is None else config.data.path.name,
        "seed": config.seed,
        "epochs": config.epochs,
        "train_images": len(splits["train"][1]),
    }
    model.save_pretrained(weights, training | scores)
    print(
        f"test accuracy {scores['test_accuracy']:.3f}, ECE {scores['test_ece']:.3f}, "
        f"temperature {temperature:.2f}, {len(moa)} images"
    )
    print(f"wrote {weights} and {picture}")


def estimate_fit(config: ClassifierConfig) -> Estimate:
    """Scale the time of one optimizer step to the whole training."""
    data, rows = load_splits(config)["train"]
    model, rng = initial_classifier(config, data, start_processes().device)
    batch = data, rows[: config.batch_size]
    one_step = replace(config, epochs=1)
    seconds = seconds_of(lambda: train(model, batch, one_step, rng)) * count_steps(config, len(rows))
    return Estimate(nfe=0, seconds=seconds, memory=peak_memory())
