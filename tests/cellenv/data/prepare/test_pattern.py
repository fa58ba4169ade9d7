import pytest

from cellenv.data.prepare.pattern import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("{plate}/{well}_s{site}_w{channel}*.tif", "P1/G10_s1_w1BEDC-20.TIF", ("P1", "G10", "1", "1")),
        ("*/{plate}/*_{well}_s{site}_w{channel}*.tif", "W3/W3_9/W3_29_E08_s1_w4F1.tif", ("W3_9", "E08", "1", "4")),
        ("{plate}/{well}/{well}_{site}_{channel}.png", "P/A1/A1_3_DAPI.png", ("P", "A1", "3", "DAPI")),
    ],
)
def test_names_are_found(pattern, path, found):
    match = compile_pattern(pattern).fullmatch(path)
    assert match and tuple(match[name] for name in ("plate", "well", "site", "channel")) == found


@pytest.mark.parametrize("path", ["P/A1/B1_3_DAPI.png", "P/A1/A1_3_DAPI.tif", "Q/P/A1/A1_3_DAPI.png"])
def test_what_differs_does_not_match(path):
    assert compile_pattern("{plate}/{well}/{well}_{site}_{channel}.png").fullmatch(path) is None


def test_signs_of_a_pattern_mean_themselves():
    assert compile_pattern("{well}(+).tif").fullmatch("A1(+).tif")


@pytest.mark.parametrize(("pattern", "message"), [("{plate}.tif", "needs {well}"), ("{wel}.tif", "names {wel}")])
def test_a_wrong_pattern_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        compile_pattern(pattern)
