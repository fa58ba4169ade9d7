"""Phase timer: every second is counted once."""

from algorithms.clock import Clock


def test_no_time_is_lost_between_laps():
    clock = Clock()
    readings = iter([1.0, 3.0, 10.0, 10.5, 11.0, 12.0])  # train: in, out; lap; rollout: in, out; lap
    clock.start, clock._now = 0.0, lambda: next(readings)
    with clock("train"):
        pass
    assert clock.lap() == {"train": 2.0, "other": 8.0, "total": 10.0}
    with clock("rollout"):
        pass
    assert clock.lap() == {"rollout": 0.5, "other": 1.5, "total": 2.0}


def test_a_phase_entered_twice_adds_up_and_an_error_ends_it():
    clock = Clock()
    readings = iter([0.0, 1.0, 5.0, 7.0, 8.0])
    clock.start, clock._now = 0.0, lambda: next(readings)
    with clock("train"):
        pass
    try:
        with clock("train"):
            raise KeyError
    except KeyError:
        pass
    assert clock.lap() == {"train": 3.0, "other": 5.0, "total": 8.0}
