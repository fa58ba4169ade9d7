"""Reading a published checkpoint runs none of its code, and names what is damaged or foreign."""

import argparse
import sys
import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from cellenv.networks import UNetConfig
from cellenv.published import read_published, read_safely
from tests.cellenv.published_checkpoints import FEW, MEANS, RAW, SMALL, few_weights
from tests.cellenv.published_toys import contents, with_ema


def test_the_rest_is_read_as_it_was_written(published_file):
    content = read_safely(published_file)
    assert content["epoch"] == 99 and content["optimizer"]["state"][0]["step"] == 9
    assert content["args"].lr == 1e-4 and content["args"].output_dir == PurePosixPath("out")


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize(("name", "pure"), [("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath)])
def test_paths_of_every_system_and_python_become_pure_ones(save_checkpoint, monkeypatch, module, name, pure):
    foreign = type(name, (), {"__module__": module, "__reduce__": lambda self: (type(self), ("a", "b"))})
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setattr(sys.modules[module], name, foreign, raising=False)
    path = save_checkpoint({"args": foreign()})
    monkeypatch.undo()
    assert read_safely(path)["args"] == pure("a/b") and type(read_safely(path)["args"]) is pure


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    ("guest", "name"),
    [(Trap(), "setattr"), (np.float64(3), r"numpy.*scalar"), (print, "print")],
)
@pytest.mark.parametrize("place", ["model", "args"])
def test_other_classes_and_functions_are_named_and_not_run(save_checkpoint, guest, name, place):
    with pytest.raises(ValueError, match=rf"c\.pth wants \S*{name}.*not read.*trust.*torch\.save"):
        read_published(save_checkpoint({"model": few_weights(), place: guest}))
    assert not Trap.sprung


def test_the_advice_of_the_refusal_works(save_checkpoint):
    content = {"model": few_weights(), "args": np.float64(3), "epoch": 4}
    trusted = torch.load(save_checkpoint(content), weights_only=False)
    path = save_checkpoint({"model": trusted["model"], "epoch": trusted["epoch"]})
    assert read_published(path, network=UNetConfig(**FEW)).metadata["epoch"] == 4


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_newer_pickle_is_refused_without_being_run(save_checkpoint):
    with pytest.raises(ValueError, match=r"wants 'Unsupported operand.*not read"):
        read_published(save_checkpoint({"model": Trap()}, pickle_protocol=4))
    assert not Trap.sprung


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_named(published_file, tmp_path, share):
    content = published_file.read_bytes()
    (tmp_path / "short.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"short\.pth is .*anew"):
        read_published(tmp_path / "short.pth", network=SMALL)


def test_a_flipped_bit_anywhere_is_found_or_does_no_harm(save_checkpoint, tmp_path):
    clean, rng = save_checkpoint({"model": few_weights()}), np.random.default_rng(0)
    content, found = clean.read_bytes(), 0
    for place in rng.choice(len(content), 120, replace=False):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "spoiled.pth").write_bytes(spoiled)
        try:
            read = read_published(tmp_path / "spoiled.pth", network=UNetConfig(**FEW)).weights
        except ValueError as error:
            assert "spoiled.pth" in str(error)
            found += 1
        else:
            assert all(torch.equal(read[name], value) for name, value in few_weights().items())
    assert found > 30


def test_an_old_archive_and_no_archive_are_named(save_checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"no archive.*begin.*PK; got"):
        read_published(save_checkpoint({"model": {}}, _use_new_zipfile_serialization=False))
    (tmp_path / "page.pth").write_text("<html>please log in</html>")
    with pytest.raises(ValueError, match=r"no archive.*got b'<htm'"):
        read_published(tmp_path / "page.pth")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth"):
        read_published(tmp_path / "nowhere.pth")


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Write an archive anew with the pickle that `change` makes of its own."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


LOOP = b"\x80\x02ccollections\nOrderedDict\nq\x00" + b"h\x00)R0" * 100_000 + b"}."
COPIES = b"\x80\x02c_codecs\nencode\nq\x00X\x04\x00\x00\x00aaaaq\x01" + b"h\x00(h\x01X\x06\x00\x00\x00latin1tR0" + b"}."


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (LOOP, "more than 500000 operations or 20000 objects"),
        (b"\x80\x02" + b"]" * 600_000 + b".", "more than 500000 operations"),
        (COPIES, r"wants _codecs.encode, which is not read"),
        (
            b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x01\x85R.",
            r"wants torch.FloatTensor, which is not read",
        ),
        (b"\x80\x02(.", "is no checkpoint that torch.save wrote"),
        (b"", "is no checkpoint that torch.save wrote"),
        (b"\x80\x02K\x01Q.", "is no checkpoint that torch.save wrote|wants"),  # a storage named by a number
    ],
)
def test_an_edited_pickle_is_named_before_it_takes_time_or_memory(save_checkpoint, pickled, message):
    with pytest.raises(ValueError, match=rf"c\.pth .*({message})"):
        read_published(rewrite(save_checkpoint({"model": {}}), lambda _: pickled))


@pytest.mark.parametrize(
    ("decoy", "message"),
    [("c/xdata.pkl", "more than 500000 operations"), ("c/x/data.pkl", "need one data.pkl in it, got 2")],
)
def test_a_decoy_does_not_take_the_place_of_the_pickle(save_checkpoint, decoy, message):
    path = save_checkpoint({"model": {}})
    with zipfile.ZipFile(path) as archive:
        clean = archive.read("c/data.pkl")
    rewrite(path, lambda _: LOOP)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({decoy: clean} | members).items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=rf"c\.pth .*({message})"):
        read_published(path)


def test_a_compressed_archive_is_not_unpacked(save_checkpoint):
    bomb = rewrite(save_checkpoint({"model": {"a": torch.zeros(10**6)}}), lambda content: content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 40_000
    with pytest.raises(ValueError, match=r"c\.pth is damaged.*compressed"):
        read_published(bomb)


@pytest.mark.parametrize(
    ("content", "got"), [([1], "list"), ({"state_dict": {}}, "state_dict"), ({"model": 3}, "model")]
)
def test_a_checkpoint_of_something_else_is_named(save_checkpoint, content, got):
    with pytest.raises(ValueError, match=rf"need a dict with a dict 'model' in it; got .*{got}"):
        read_published(save_checkpoint(content))


@pytest.mark.parametrize("namespace", [SimpleNamespace, argparse.Namespace])
def test_arguments_of_the_training_may_be_either_namespace(tmp_path, namespace):
    file = tmp_path / "cellflux.pth"
    torch.save(contents(with_ema(RAW, MEANS), [f"model.{name}" for name in RAW], namespace), file)
    assert read_published(file, network=SMALL).metadata["epoch"] == 99
