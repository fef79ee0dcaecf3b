"""The running basis of features where processes see other frames."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmcity.models.gausstr.pca import FeatureBasis

SIZES = (7, 20)  # features of each process


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spread = torch.diag(torch.tensor([5.0, 3.0, 1.0, 0.5]))
    return [
        torch.randn(2, size, 4, generator=generator) @ spread + 10 * rank
        for rank, size in enumerate(SIZES)
    ]


def follow(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    basis = FeatureBasis(4, 2)
    for features in batches()[rank]:
        basis.update(features)
    torch.save([basis.basis, basis.covariance], f"{out}{rank}.pth")
    dist.destroy_process_group()


def test_basis_is_that_of_all_features(tmp_path):
    mp.spawn(follow, (str(tmp_path / "store"), str(tmp_path / "rank")), nprocs=2)
    alone = FeatureBasis(4, 2)
    for step in range(2):
        alone.update(torch.cat([features[step] for features in batches()]))
    for rank in range(2):
        basis, covariance = torch.load(tmp_path / f"rank{rank}.pth", weights_only=True)
        torch.testing.assert_close(covariance, alone.covariance, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(basis.abs(), alone.basis.abs(), rtol=1e-4, atol=1e-5)
