import pytest

from cellenv.data.layouts import BBBC021, JUMP, LAYOUTS, RXRX1


def test_networks_are_those_of_the_data_sets():
    sizes = {name: (*layout.unet.size, layout.unet.condition_dim) for name, layout in LAYOUTS.items()}
    assert sizes == {"bbbc021": (3, 96, 96, 1024), "rxrx1": (6, 96, 96, 200), "jump": (5, 96, 96, 1224)}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_stain_for_each_channel_and_for_each_part(layout):
    assert len(layout.stains) == len(set(layout.channels)) == layout.unet.size[0]
    plays = dict(zip(layout.channels, layout.stains, strict=True))
    assert (plays["DNA"], plays["actin"], plays["tubulin"]) == (layout.nucleus, *layout.cytoplasm)


def test_channels_of_the_other_data_sets():
    assert BBBC021.channels == BBBC021.stains
    assert RXRX1.channels == ("DNA", "tubulin", "actin", "RNA", "mitochondria", "Golgi")  # ER stands in for tubulin
    assert JUMP.channels == ("mitochondria", "actin", "RNA", "tubulin", "DNA")  # AGP for actin, ER for tubulin


@pytest.mark.parametrize(
    ("layout", "key", "file"),
    [
        (BBBC021, "Week6_31661_6_246_80.0", "Week6/31661/6_246_80.0.npy"),
        (RXRX1, "U2OS-01_2_B03_1_7", "01_2/B03/1_7.npy"),
        (JUMP, "BR00116991_A01_s1_4_2", "BR00116991/A01_s1/A01_s1_4_2.npy"),
    ],
)
def test_files(layout, key, file):
    assert layout.file(key) == file
    with pytest.raises(ValueError):
        layout.file("Week6")
