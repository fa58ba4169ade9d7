import sys

import pytest

from rewards.suite.importing import import_function


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a package and a file that import a neighbour."""
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab/helper.py").write_text("WIDTH = 3\n")
    (tmp_path / "mylab/rewards.py").write_text(
        "from mylab.helper import WIDTH\n\ndef width(images):\n    return WIDTH\n"
    )
    (tmp_path / "mylab/broken.py").write_text("import no_such_package\n")
    (tmp_path / "mylab/typo.py").write_text("def f(:\n")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/neighbour.py").write_text("DEPTH = 4\n")
    (tmp_path / "files/rewards.py").write_text("from neighbour import DEPTH\n\ndef depth(images):\n    return DEPTH\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_of_the_current_folder_is_found_and_the_search_path_restored(folder):
    path = list(sys.path)
    assert import_function("mylab.rewards", "width")(None) == 3
    assert sys.path == path


def test_a_file_may_import_its_neighbours_and_replaces_no_package(folder):
    import rewards

    path = list(sys.path)
    assert import_function("files/rewards.py", "depth")(None) == 4
    assert import_function(str(folder / "files/rewards.py"), "depth")(None) == 4
    assert sys.path == path and sys.modules["rewards"] is rewards


@pytest.mark.parametrize(
    ("source", "function", "message"),
    [
        ("mylab.absent", "f", r"cannot import the module 'mylab.absent': .*current folder, {folder}"),
        ("mylab.broken", "f", "cannot import the module 'mylab.broken': No module named 'no_such_package'"),
        ("mylab.typo", "f", "cannot import the module 'mylab.typo'"),
        ("mylab.rewards", "wdth", "mylab.rewards has no function 'wdth'; it has width"),
        ("mylab.helper", "f", "it has none"),
        ("files/absent.py", "f", "no file {folder}/files/absent.py"),
        ("mylab/broken.py", "f", "cannot import {folder}/mylab/broken.py: No module named 'no_such_package'"),
        ("files/rewards.py", "f", "files/rewards.py has no function 'f'; it has depth"),
    ],
)
def test_what_cannot_be_imported_is_named(folder, source, function, message):
    with pytest.raises(ValueError, match=message.format(folder=folder)):
        import_function(source, function)
