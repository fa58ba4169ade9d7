"""Train the base generator by flow matching: a control of the same experimental batch becomes a treated image.

    accelerate launch examples/train_base.py --output-dir runs/base
    accelerate launch examples/train_base.py --preset cellflux --data DATA --judge WEIGHTS   # as published, on a GPU

A validation leaves a picture of samples and the curves so far: loss, and distances to real cells. By default the
learning rate is constant until the last fifth of the steps, and the state at that point is kept: `--resume` with more
`--steps` goes on from there, and equals a run of as many steps from the start bit for bit.
"""

from base_config import PRESETS, Config
from command_line import parse

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

from base_run import Run, cooldown_start
from loading import load_cells
from options import Cells
from tqdm import tqdm

from algorithms.launch import start_accelerator
from cellenv.data.cells import CellData


def main(config: Config) -> None:
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share {config.batch_size} pairs evenly")
    accelerator.init_trackers("base")
    run = Run(config, accelerator, *load_data(config))
    start = run.load() if config.resume else 0
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = tqdm(total=config.steps, initial=start, disable=not accelerator.is_main_process, smoothing=0.02)
    for step in range(start, config.steps):
        if step == cooldown_start(config.steps, config.cooldown):
            run.save("stable", step)
        loss = run.step(step, share)
        done = step + 1
        if done % config.draw_every == 0 or done == config.steps:
            run.validate(done)
        if done % config.save_every == 0 or done == config.steps:
            run.save("checkpoints", done)
        bar.update()
        if done % 20 == 0:
            bar.set_postfix({"loss": loss.item()} | (run.history[-1] if run.history else {}))
            accelerator.log({"loss": loss.item(), "lr": run.optimizer.param_groups[0]["lr"]}, step=done)
    bar.close()
    run.publish()
    accelerator.end_training()


def load_data(options: Cells) -> tuple[CellData, CellData]:
    """(train, validation); a folder has no validation split: its test split."""
    return load_cells(options, "train"), load_cells(options, "validation" if options.data is None else "test")


if __name__ == "__main__":
    main(CONFIG)
