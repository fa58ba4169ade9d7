import numpy as np
import pytest

from cellenv.data.prepare.illumination import ScaleRules, fit_scale, merge, resize, summarize_field

RULES = ScaleRules(divide_light=True, sigma=0.1, subtract_dark=True, low=1.0, high=99.0)
SHAPE = (120, 168)


def vignette():
    y, x = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
    return np.stack([1 - 0.2 * (y**2 + x**2), 1 - 0.3 * (y - 0.3) ** 2]).astype(np.float32)


def draw_fields(n, gain, rng):
    """Speckles under uneven light, 200 grey values above the dark, and each pixel's value before the light."""
    signal = rng.gamma(2.0, 500, (n, 2, *SHAPE)).astype(np.float32) * np.array([1, gain])[None, :, None, None]
    return (200 + signal * vignette()).astype(np.float32), signal


def scale_of(fields, rules=RULES):
    return fit_scale(merge(summarize_field(f, 5000, i, str(i)) for i, f in enumerate(fields)), rules, ("a", "b"))


def test_light_and_scale_are_recovered():
    fields, _ = draw_fields(12, 3.0, np.random.default_rng(0))
    scale = scale_of(fields)
    assert scale.dark == pytest.approx([200, 200], abs=60)
    light = np.stack([resize(plane, SHAPE) for plane in scale.light])
    ratio = light / vignette()
    assert (ratio.std((1, 2)) / ratio.mean((1, 2)) < 0.035).all()  # the shape, whatever its unit
    found = np.percentile(scale.normalise(fields[3]), [1, 99], axis=(1, 2))
    assert found == pytest.approx(np.array([[0, 0], [1, 1]]), abs=0.05)


def test_a_brighter_plate_has_the_same_normalised_cells():
    rng = np.random.default_rng(1)
    fields, _ = draw_fields(8, 1.0, rng)
    brighter = (2.5 * (fields - 200) + 400).astype(np.float32)
    np.testing.assert_allclose(
        scale_of(fields).normalise(fields[0]), scale_of(brighter).normalise(brighter[0]), atol=1e-2
    )


def test_light_and_dark_may_stay():
    fields, _ = draw_fields(2, 1.0, np.random.default_rng(2))
    rules = ScaleRules(divide_light=False, sigma=0.2, subtract_dark=False, low=0, high=100)
    scale = scale_of(fields, rules)
    assert (scale.light == 1).all() and (scale.dark == 0).all()
    np.testing.assert_array_equal(scale.flatten(fields[0]), fields[0])


def test_merging_equals_all_at_once_and_needs_one_size():
    fields, _ = draw_fields(3, 1.0, np.random.default_rng(3))
    parts = [summarize_field(field, 100, i, str(i)) for i, field in enumerate(fields)]
    whole, nested = merge(parts), merge([merge(parts[:2]), parts[2]])
    assert whole.count == nested.count == 3
    np.testing.assert_allclose(whole.total, nested.total)
    np.testing.assert_array_equal(whole.samples, nested.samples)
    with pytest.raises(ValueError, match=r"one size, but 0 has \(120, 168\) px and odd has \(104, 168\)"):
        merge([parts[0], summarize_field(fields[0][:, :104], 10, 0, "odd")])
    with pytest.raises(ValueError, match="no field"):
        merge([])


def test_a_dark_corner_is_not_divided_by_nothing():
    fields = np.full((1, 2, *SHAPE), 100, np.float32) + np.random.default_rng(4).normal(0, 1, (1, 2, *SHAPE))
    fields[:, :, :60, :80] = 0
    scale = scale_of(fields.astype(np.float32), ScaleRules(**{**vars(RULES), "subtract_dark": False, "sigma": 0.02}))
    assert scale.light.min() == pytest.approx(0.1)


def test_an_empty_stain_is_named():
    fields, _ = draw_fields(2, 1.0, np.random.default_rng(5))
    fields[:, 1] = 7
    with pytest.raises(ValueError, match="b is equally bright"):
        scale_of(fields)
