from dataclasses import replace

import pytest

from cellenv.data.prepare.fields import Field, name_fields
from cellenv.data.prepare.treatments import (
    add_mechanisms,
    add_structures,
    add_wells,
    mark_controls,
    select,
    structures_of,
)

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
    fields = [FIELDS[0], replace(FIELDS[1], compound="aspirin"), *FIELDS[2:]]
    kept, left_out = select(mark_controls(fields, ["DMSO"]), label_by_compound=True)
    assert [f.moa for f in kept] == ["taxol", "aspirin", "DMSO"] and left_out == {"no compound": ["W_1_A04_s1"]}
    with pytest.raises(ValueError, match=r"no treated field is left, of 4.*--moa"):
        select(mark_controls(FIELDS, ["DMSO"]), label_by_compound=False)


def test_two_spellings_of_a_compound_are_refused():
    fields = [replace(field, moa="Stab") for field in mark_controls(FIELDS, ["DMSO"])]
    with pytest.raises(ValueError, match=r"'taxol' and 'Taxol' \(W_1_A02_s1\) differ in upper .*: write one"):
        select(fields, label_by_compound=False)
    vehicle = mark_controls([*FIELDS[:1], replace(BARE, compound="water"), *FIELDS[2:]], ["water"])
    kept, _ = select(vehicle, label_by_compound=True)  # what controls are called is nobody's spelling
    assert [f.compound for f in kept] == ["taxol", "DMSO", "dmso"]


def test_wells_join_by_plate_and_well(tmp_path):
    other = replace(BARE, batch="batch", plate="W-2", well="a1")
    wells = write(tmp_path / "w.csv", "Plate;Well;Compound;Dose;SMILES\nW_1;A1;aspirin;2,5;CC\nW_2;A01;DMSO;;\n")
    first, second = add_wells([BARE, other], wells)
    assert (first.compound, first.dose, first.smiles) == ("aspirin", 2.5, "CC")
    assert (second.compound, second.dose) == ("DMSO", 0.0)
    by_well = write(tmp_path / "w.csv", "well,treatment\nA01,aspirin\n")
    assert [f.compound for f in add_wells([BARE, other], by_well)] == ["aspirin", "aspirin"]


def test_a_plate_of_several_batches_is_joined_by_its_full_name(tmp_path):
    first, second = replace(BARE, batch="W1"), replace(BARE, batch="W2")
    table = "plate,well,compound\nW1_1,A01,taxol\nW2_1,A01,aspirin\n1,A01,DMSO\n"
    assert [f.compound for f in add_wells([first, second], write(tmp_path / "w.csv", table))] == ["taxol", "aspirin"]
    assert add_wells([replace(BARE, batch="W3")], tmp_path / "w.csv")[0].compound == "DMSO"
    for table in ("plate,well,compound\n1,A01,taxol\n", "plate,well,compound\nW1_1,A01,taxol\n1,A01,DMSO\n"):
        with pytest.raises(ValueError, match="plate '1' is one of batch W1 and W2: name it as W"):
            add_wells([first, second], write(tmp_path / "w.csv", table))
    table = "batch,plate,well,compound\nW1,1,A01,taxol\nW2,1,A01,DMSO\n"
    with pytest.raises(ValueError, match="two rows for well A01 of plate 1: name plates of several batches as W1_1"):
        add_wells([first, second], write(tmp_path / "w.csv", table))


def test_signs_in_the_name_of_a_well_are_read_as_in_those_of_fields(tmp_path):
    (field,) = add_wells(name_fields([replace(BARE, well="A 1")]), write(tmp_path / "w.csv", "well,compound\nA 1,x\n"))
    assert (field.well, field.compound) == ("A-1", "x")


def test_what_a_table_leaves_empty_the_fields_keep(tmp_path):
    field = replace(BARE, compound="taxol", dose=5.0, moa="Stab")
    (found,) = add_wells([field], write(tmp_path / "w.csv", "well,compound,concentration,moa\nA01,taxol,,\n"))
    assert found == field
    assert add_mechanisms([field], write(tmp_path / "m.csv", "compound,moa\ntaxol,\n")) == [field]
    table = write(tmp_path / "s.csv", "compound,smiles\ntaxol,C\nTaxol,\n")
    assert add_structures([field], table)[0].smiles == "C"


def test_an_index_column_of_a_table_of_wells_is_none_of_its_values(tmp_path):
    (found,) = add_wells([BARE], write(tmp_path / "w.csv", ",well,compound\n7,A01,aspirin\n"))
    assert found == replace(BARE, compound="aspirin")


def test_structures_join_by_compound(tmp_path):
    file = write(tmp_path / "c.csv", "compound,smiles\nTAXOL,CCO\n")
    assert [f.smiles for f in add_structures(FIELDS, file)] == ["CCO", "CCO", "", ""]


def test_the_structure_of_a_compound_is_the_one_that_any_of_its_fields_has():
    taxol = replace(BARE, compound="taxol")
    known = [replace(taxol, smiles="C"), taxol, replace(BARE, compound="DMSO", smiles="O", is_control=True)]
    for fields in (known, known[::-1]):
        assert structures_of([*fields, replace(BARE, compound="aspirin")]) == {"taxol": "C", "aspirin": ""}
    with pytest.raises(ValueError, match="'taxol' has two structures: 'C' and 'CC'; --compounds"):
        structures_of([*known, replace(taxol, smiles="CC")])


@pytest.mark.parametrize(
    ("add", "text", "message"),
    [
        (add_mechanisms, "compound,moa\ntaxol,a\nTaxol,b\n", "'Taxol' two mechanisms: 'a' and 'b'"),
        (add_mechanisms, "drug,moa\ntaxol,a\n", "needs a column compound or .*it has drug, moa"),
        (add_wells, "well,compound\nA1,x\nA01,y\n", "two rows for well A01"),
        (add_wells, "well,compound\nH12,x\n", "no well of the fields: its first is well 'H12', .* well A01"),
        (add_wells, "plate,well,compound\nP2,A1,x\n", "its first is plate 'P2', well 'A1', .* plate W_1, well A01"),
        (add_wells, "plate,well,compound\nsiRNA+,A01,x\nsiRNA-,A02,y\n", r"'siRNA\+' and 'siRNA-' are both 'siRNA'"),
        (add_structures, "compound,smiles\ntaxol,C\nTaxol,CC\n", "'Taxol' two structures: 'C' and 'CC'"),
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
