"""Signals: noted, repeated by an impatient user, given back; a worker ends with its launcher."""

import os
import signal
import subprocess
import sys
import time

import pytest

from algorithms import interruption
from algorithms.interruption import StopRequest

PYTHON = [sys.executable, "-c"]
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_is_noted_and_interrupts_nothing(number):
    before = signal.getsignal(number)
    with pytest.raises(RuntimeError), StopRequest() as request:
        assert request.number == 0
        for _ in range(2):  # the second is the launcher's copy
            os.kill(os.getpid(), number)
        assert request.number == number
        raise RuntimeError("as when the run ends itself")
    assert signal.getsignal(number) is before


def test_what_nobody_acted_on_is_raised_at_the_end():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_ends_the_process_at_once():
    code = """
import os, signal, time
from algorithms import interruption
interruption.PATIENCE = 0.0
with interruption.StopRequest():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([*PYTHON, code], env=ENV, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_ctrl_c_outside_of_a_training_leaves_no_traceback():
    code = """
import os, signal
from algorithms.interruption import plain_interrupts
with plain_interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    print("still here")
"""
    done = subprocess.run([*PYTHON, code], env=ENV, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("launched", [True, False])
def test_a_worker_ends_when_its_launcher_is_killed_and_no_other_process_does(launched):
    worker = """
import os, time
from algorithms.interruption import StopRequest, follow_launcher
with StopRequest() as request:
    follow_launcher()
    print(os.getpid(), flush=True)
    end = time.monotonic() + 3
    while not request.number and time.monotonic() < end:
        time.sleep(0.05)
    print(request.number, flush=True)
    request.number = 0
"""
    launcher = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    env = {name: value for name, value in ENV.items() if name not in interruption.LAUNCHERS}
    env |= {interruption.LAUNCHERS[0]: "NO"} if launched else {}
    process = subprocess.Popen([*PYTHON, launcher, worker], env=env, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    start = time.monotonic()
    process.kill()
    assert int(process.stdout.readline()) == (signal.SIGTERM if launched else 0)
    assert not launched or time.monotonic() < start + 2.5
    process.stdout.close()
    process.wait()
