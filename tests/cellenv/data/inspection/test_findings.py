import json
from dataclasses import asdict

from cellenv.data.inspection.findings import inspection_from_json
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from tests.cellenv.data.inspection.folders import ROWS, write_sound


def test_an_inspection_is_the_same_after_json(tmp_path):
    found = inspect_folder(CellFolder.read(write_sound(tmp_path, ROWS[1:])))
    assert found.problems and inspection_from_json(json.loads(json.dumps(asdict(found)))) == found
