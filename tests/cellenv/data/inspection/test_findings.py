from cellenv.data.inspection.findings import Inspection
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.json_io import dump_json, read_json
from tests.cellenv.data.inspection.folders import ROWS, write_sound


def test_an_inspection_is_the_same_after_json(tmp_path):
    found = inspect_folder(CellFolder.read(write_sound(tmp_path, ROWS[1:])))
    (tmp_path / "found.json").write_bytes(dump_json(found))
    assert found.problems and read_json(tmp_path / "found.json", Inspection) == found
