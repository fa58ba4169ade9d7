import pytest

from algorithms.data_config import DataConfig


def test_options_of_a_folder_need_one_and_those_of_the_embedded_world_none(tmp_path):
    with pytest.raises(ValueError, match="need --data DIR for --channels, --unlabelled"):
        DataConfig(channels="a,b,DNA", unlabelled=True)
    with pytest.raises(ValueError, match="--world chooses images of the embedded world"):
        DataConfig(path=tmp_path, world=1)
