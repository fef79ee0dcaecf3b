import pytest
import torch

from mmcity.utils.torch_files import write_torch
from tests.reliability.disks import files_up_to


def test_tensors_come_back(tmp_path):
    write_torch(tmp_path / "a.pth", {"a": torch.arange(5)}, durable=True)
    assert torch.load(tmp_path / "a.pth", weights_only=True)["a"].tolist() == [0, 1, 2, 3, 4]


def test_a_full_disk_is_told_with_the_file_and_leaves_the_earlier_one(tmp_path):
    """Torch speaks of positions in its archive, or of an error of basic_ios."""
    path = tmp_path / "a.pth"
    write_torch(path, {"a": torch.zeros(3)})
    earlier = path.read_bytes()

    with pytest.raises(OSError, match=r"a\.pth"), files_up_to(20_000):
        write_torch(path, {"a": torch.zeros(100_000)})

    assert path.read_bytes() == earlier
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
