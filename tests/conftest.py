"""Accelerate keeps its state for the process; a test that wants another precision starts and leaves it clean."""

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture
def fresh_accelerate():
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
