"""Channel orders and roles of stains as users and published sources write them."""

import json
from dataclasses import replace

import pytest

from cellenv.data.layouts import BBBC021, JUMP
from cellenv.data.stains import choose_stains, parse_stains

MICROSCOPE = ("Mito", "AGP", "RNA", "ER", "DNA")


@pytest.mark.parametrize("text", ["Mito,AGP,RNA,ER,DNA", " Mito, AGP,RNA,ER,DNA", "DNA=5,RNA=3,ER=4,AGP=2,Mito=1"])
def test_an_order_as_a_list_and_as_channel_numbers(text):
    assert parse_stains(text) == MICROSCOPE


@pytest.mark.parametrize("nested", [False, True])
def test_the_mapping_of_a_source_in_a_file(tmp_path, nested):
    mapping = {"DNA": 7, "RNA": 3, "ER": 4, "AGP": 5, "Mito": 6}
    (tmp_path / "source.json").write_text(json.dumps({"channel_mapping": mapping} if nested else mapping))
    assert parse_stains(str(tmp_path / "source.json")) == ("RNA", "ER", "AGP", "Mito", "DNA")


@pytest.mark.parametrize("text", ["DNA,DNA", "DNA,,ER", "DNA=1,ER=1", "DNA=first,ER=2"])
def test_an_order_that_is_none(text):
    with pytest.raises(ValueError, match=r"need a different name|one number|need the number"):
        parse_stains(text)


def test_a_file_that_is_missing_or_no_order(tmp_path):
    with pytest.raises(FileNotFoundError, match="order of the channels"):
        parse_stains(str(tmp_path / "none.json"))
    for content, message in [
        ('"DNA"', "list of stains"),
        ("[" * 200_000, "is not JSON"),
        ('{"a": Infinity}', "number"),
    ]:
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ValueError, match=f"a.json.*{message}|{message}.*a.json"):
            parse_stains(str(tmp_path / "a.json"))


def test_roles_decide_what_the_segmenter_sees():
    two = choose_stains(JUMP, channels=",".join(MICROSCOPE), cytoplasm="ER,AGP")
    assert two.channels == ("Mito", "tubulin", "RNA", "actin", "DNA")
    one = choose_stains(JUMP, channels=",".join(MICROSCOPE), nucleus="DNA", cytoplasm="AGP")
    assert one.channels == ("Mito", "actin", "RNA", "ER", "DNA")


def test_a_stain_without_its_role_segments_nothing():
    assert choose_stains(BBBC021, cytoplasm="tubulin").channels == ("actin stain", "actin", "DNA")


def test_roles_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"AGP, ER is none of the channels a, b, DNA: give --cytoplasm"):
        choose_stains(JUMP, channels="a,b,DNA")
    with pytest.raises(ValueError, match=r"Hoechst is none of .*: give --nucleus"):
        choose_stains(JUMP, nucleus="Hoechst")
    with pytest.raises(ValueError, match="one or two stains"):
        choose_stains(JUMP, cytoplasm="RNA,ER,AGP")
    with pytest.raises(ValueError, match="other than that of the nucleus, RNA"):
        choose_stains(JUMP, nucleus="RNA", cytoplasm="RNA,ER")


def test_nothing_chosen_changes_nothing():
    assert choose_stains(JUMP) == JUMP == replace(JUMP)
