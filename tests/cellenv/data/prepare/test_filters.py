import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellenv.data.prepare.filters import FilterRules, edge_blurs, judge_nuclei
from cellenv.data.prepare.nuclei import measure_nuclei
from tests.cellenv.data.prepare.plate_toys import disks

RULES = FilterRules(min_area=200, max_area=2000, max_blur=3.0)
SHAPE = (160, 200)


def test_verdicts_are_the_reasons():
    centres = [(80, 100, 12), (30, 40, 12), (75, 60, 6), (80, 150, 27)]
    labels = sum((k + 1) * disks(SHAPE, [(y, x)], r).astype(np.int32) for k, (y, x, r) in enumerate(centres))
    dna = (labels > 0).astype(np.float32)
    assert judge_nuclei(measure_nuclei(labels), dna, 80, RULES) == ["accepted", "border", "small", "large"]
    assert judge_nuclei(measure_nuclei(labels), gaussian_filter(dna, 5), 80, RULES)[0] == "blurred"


@pytest.mark.parametrize(("y", "verdict"), [(29, "border"), (30, "accepted"), (130, "accepted"), (131, "border")])
def test_a_crop_may_touch_the_border_but_not_cross_it(y, verdict):
    labels = disks(SHAPE, [(y, 100)], 10).astype(np.int32)
    assert judge_nuclei(measure_nuclei(labels), labels.astype(np.float32), 60, RULES) == [verdict]


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("gain", [0.2, 1.0])
def test_the_blur_of_an_edge_is_measured_whatever_its_brightness(sigma, gain):
    sharp = disks(SHAPE, [(80, 60), (80, 140)], 18)
    labels = measure_nuclei((sharp * (1 + (np.arange(200) > 100))).astype(np.int32))
    noise = np.random.default_rng(0).normal(0, 0.005, SHAPE)
    dna = gain * (0.1 + gaussian_filter(sharp, sigma) + noise).astype(np.float32)
    assert edge_blurs(labels, dna) == pytest.approx([sigma, sigma], rel=0.15, abs=0.2)
