from dataclasses import replace

import pytest

from cellenv.data.prepare.fields import Field
from cellenv.data.prepare.treatments import add_mechanisms, add_structures, add_wells, mark_controls, select

BARE = Field(batch="W", plate="1", well="A01", site="1", planes=())
FIELDS = [
    replace(BARE, compound="taxol", dose=0.3),
    replace(BARE, well="A02", compound="Taxol", dose=3.0),
    replace(BARE, well="A03", compound="dmso"),
    replace(BARE, well="A04"),
]


def write(file, text):
    file.write_text(text)
    return file


def test_compound_and_concentration_join_the_mechanism(tmp_path):
    moa = write(tmp_path / "moa.csv", '"compound",concentration,"moa"\r"taxol",0.300000,"Stab"\r"DMSO",0.0,"DMSO"\r')
    fields = mark_controls(add_mechanisms(FIELDS, moa), ["DMSO"])
    assert [(f.compound, f.moa, f.is_control) for f in fields] == [
        *(("taxol", "Stab", False), ("Taxol", "", False), ("DMSO", "DMSO", True), ("", "", False)),
    ]
    kept, left_out = select(fields, label_by_compound=False)
    assert [f.well for f in kept] == ["A01", "A03"]
    assert left_out == {"no mechanism of action": ["W_1_A02_s1"], "no compound": ["W_1_A04_s1"]}


def test_mechanisms_of_compounds_alone(tmp_path):
    fields = add_mechanisms(FIELDS, write(tmp_path / "moa.csv", "Name,Mechanism of action\ntaxol,Stab\n"))
    assert [f.moa for f in fields] == ["Stab", "Stab", "", ""]


def test_a_compound_may_be_its_own_mechanism():
    kept, left_out = select(mark_controls(FIELDS, ["DMSO"]), label_by_compound=True)
    assert [f.moa for f in kept] == ["taxol", "Taxol", "DMSO"] and left_out == {"no compound": ["W_1_A04_s1"]}
    with pytest.raises(ValueError, match=r"no treated field is left, of 4.*--moa"):
        select(mark_controls(FIELDS, ["DMSO"]), label_by_compound=False)


def test_wells_join_by_plate_and_well(tmp_path):
    other = replace(BARE, batch="batch", plate="W-2", well="a1")
    wells = write(tmp_path / "w.csv", "Plate;Well;Compound;Dose;SMILES\nW_1;A1;aspirin;2,5;CC\nW_2;A01;DMSO;;\n")
    first, second = add_wells([BARE, other], wells)
    assert (first.compound, first.dose, first.smiles) == ("aspirin", 2.5, "CC")
    assert (second.compound, second.dose) == ("DMSO", 0.0)
    by_well = write(tmp_path / "w.csv", "well,treatment\nA01,aspirin\n")
    assert [f.compound for f in add_wells([BARE, other], by_well)] == ["aspirin", "aspirin"]


def test_an_index_column_of_a_table_of_wells_is_none_of_its_values(tmp_path):
    (found,) = add_wells([BARE], write(tmp_path / "w.csv", ",well,compound\n7,A01,aspirin\n"))
    assert found == replace(BARE, compound="aspirin")


def test_structures_join_by_compound(tmp_path):
    file = write(tmp_path / "c.csv", "compound,smiles\nTAXOL,CCO\n")
    assert [f.smiles for f in add_structures(FIELDS, file)] == ["CCO", "CCO", "", ""]


@pytest.mark.parametrize(
    ("add", "text", "message"),
    [
        (add_mechanisms, "compound,moa\ntaxol,a\nTaxol,b\n", "'Taxol' two mechanisms: 'a' and 'b'"),
        (add_mechanisms, "drug,moa\ntaxol,a\n", "needs a column compound or .*it has drug, moa"),
        (add_wells, "well,compound\nA1,x\nA01,y\n", "two rows for well A01"),
        (add_wells, "well,compound\nH12,x\n", "no well of the fields: its first is well 'H12', .* well A01"),
        (add_wells, "plate,well,compound\nP2,A1,x\n", "its first is plate 'P2', well 'A1', .* plate W_1, well A01"),
        (add_wells, "plate,well,compound\nsiRNA+,A01,x\nsiRNA-,A02,y\n", r"'siRNA\+' and 'siRNA-' are both 'siRNA'"),
        (add_structures, "compound\ntaxol\n", "needs a column smiles"),
    ],
)
def test_wrong_tables_are_refused(add, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        add([replace(BARE)], write(tmp_path / "t.csv", text))


def test_a_table_of_other_wells_is_refused_though_the_fields_name_compounds(tmp_path):
    with pytest.raises(ValueError, match="names no well"):
        add_wells(FIELDS, write(tmp_path / "w.csv", "well,compound\nH12,x\n"))


def test_wells_of_which_nothing_is_known_ask_for_a_table():
    with pytest.raises(ValueError, match="give --wells"):
        mark_controls([BARE], ["DMSO"])


def test_a_plate_without_controls_is_refused():
    with pytest.raises(ValueError, match="no well holds the control vehicle; they hold 'taxol'"):
        mark_controls(FIELDS, ["vehicle"])
