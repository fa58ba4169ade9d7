"""The study of a long run: what it counts of processes, and that a run which ends by itself is no result."""

import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image

from algorithms.command_line import parse
from algorithms.recipes import nft
from examples.studies import soak
from examples.studies.soak import WORDS, Sample, SoakConfig, count, growth, watch

HOLD = "import os, sys, time; kept = [open(os.devnull) for _ in range(int(sys.argv[1]))]; print(flush=True); "
STOP = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
CHILD = f"import subprocess; subprocess.run([sys.executable, '-c', {HOLD + 'time.sleep(60)'!r}, '30']); "


def start(code: str, *args: str) -> subprocess.Popen[bytes]:
    """A process of Python, once it or its child has printed a line."""
    child = subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"\n"
    return child


def test_files_and_memory_of_children_count():
    with start(HOLD + "time.sleep(60)", "10") as child:
        alone = count(psutil.Process(child.pid), 0.0)
        child.kill()
    with start("import sys; " + CHILD) as child:
        run = psutil.Process(child.pid)
        both = count(run, 1.0)
        for process in (*run.children(), run):
            process.kill()
    assert alone.processes == 1 and both.processes == 2 and both.minutes == 1.0
    assert 10 <= alone.files < 30 <= both.files and both.memory > 1.5 * alone.memory > 1


def test_a_run_is_sampled_until_it_is_stopped():
    samples = watch(lambda: start(STOP + HOLD + "time.sleep(60)", "10"), 0.02, 0.1)
    assert len(samples) > 1 and {sample.processes for sample in samples} == {1}
    assert min(np.diff([sample.minutes for sample in samples])) >= 0.1 / 60 and samples[-1].minutes < 0.02


@pytest.mark.parametrize(("code", "exit_code"), [("print(flush=True); exit(1)", 1), (HOLD + "time.sleep(60)", -15)])
def test_a_run_that_fails_or_does_not_stop_well_is_no_result(code, exit_code):
    with pytest.raises(RuntimeError, match=f"ended with exit code {exit_code} after 0.0 minutes"):
        watch(lambda: start(code, "0"), 0.01, 0.1)


def test_growth_is_that_of_an_hour():
    noise = np.random.default_rng(0).normal(size=200)
    steady, leaking = ([Sample(i / 4, 1, 500 + slope * i + noise[i], 9) for i in range(200)] for slope in (0.0, 0.05))
    assert growth(steady) == pytest.approx(0, abs=1) and growth(leaking) == pytest.approx(12, abs=1)


def test_the_training_saves_and_draws_and_has_a_worker():
    config = parse(nft.PRESETS, None, WORDS).config
    assert max(config.save_every, config.show_every) < 100 < config.iterations and config.reward.workers == 1


def test_what_was_counted_is_written(tmp_path, monkeypatch, capsys):
    samples = [Sample(i / 10, 3, 100.0 + (i < 20), 40 + i % 2) for i in range(60)]

    def watch_nothing(start, minutes, interval):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "log.jsonl").write_text('{"iteration": 0}\n' * 7)
        return samples

    monkeypatch.setattr(soak, "watch", watch_nothing)
    soak.main(SoakConfig(output_dir=tmp_path, minutes=6.0, warm_up=2.0))
    printed = capsys.readouterr().out
    assert "7 iterations in 6 minutes, 40 samples" in printed and "memory 100 to 100 MB, growing by" in printed
    assert "open files 40 to 41, of 3 processes" in printed
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == 61
    picture = np.asarray(Image.open(tmp_path / "soak.png").convert("L"))
    assert picture.shape[1] > 2 * picture.shape[0] and (picture < 128).any()


def test_a_warm_up_without_an_end_is_refused():
    with pytest.raises(ValueError, match="warm_up must be below minutes, got"):
        SoakConfig(minutes=60, warm_up=60.0)
