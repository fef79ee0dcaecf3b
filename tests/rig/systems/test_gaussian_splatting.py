"""Plain Gaussian splatting on the virtual device."""

from tests.rig import harness

CONFIG = "configs/gaussian_splatting/3dgs_toytown_cpu.py"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def test_training(toytown_citygsx, tmp_path):
    data = [f"{loader}.dataset.data_root={toytown_citygsx}" for loader in LOADERS]
    log = harness.train(CONFIG, tmp_path, cfg=data)
    assert "Virtual CUDA" in log and (tmp_path / "iter_3.pth").exists()
