"""Seconds and memory that the conversion of a published checkpoint takes: full size, with EMA and optimizer state.

    python -m tests.bench.bench_convert [FOLDER]

Writes about 900 MB into the folder (a temporary one when left out), converts it as a user would, removes it.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def write(file: Path) -> None:
    """In a process of its own: what it occupies would count as the conversion's."""
    import torch

    from tests.cellenv.published_toys import contents, published_shapes, random_weights, with_ema

    shapes = published_shapes()
    model = with_ema(random_weights(shapes, 0), random_weights(shapes, 1))
    torch.save(contents(model, [f"model.{name}" for name in shapes]), file)


def main(folder: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file, out = Path(place) / "cellflux.pth", Path(place) / "cellflux"
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(file,))
        writer.start()
        writer.join()
        print(f"checkpoint: {file.stat().st_size / 1e6:.0f} MB")

        start = time.perf_counter()
        converter = subprocess.Popen([sys.executable, str(ROOT / "examples/convert_cellflux.py"), str(file), str(out)])
        _, status, used = os.wait4(converter.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise RuntimeError(f"the conversion failed with status {status}")
        written = (out / "model.safetensors").stat().st_size / 1e6
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(f"converted to {written:.0f} MB in {seconds:.1f} s ({cpu:.1f} s of CPU), peak {peak:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
