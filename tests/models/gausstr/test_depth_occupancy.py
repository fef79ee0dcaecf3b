"""What depth maps say about the volume, on scenes whose answer is known."""

import torch

from mmcity.models.gausstr.depth_occupancy import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    occupancy_from_depth,
    volume_loss,
)

RANGE, VOXEL = (-2.0, -2.0, -2.0, 10.0, 2.0, 2.0), 0.5


def forward_camera(height=24, width=24, focal=12.0):
    """A camera at the origin of the ego frame that looks along x."""
    cam2ego = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    cam2img = torch.eye(4)
    cam2img[0, 0] = cam2img[1, 1] = focal
    cam2img[0, 2], cam2img[1, 2] = width / 2, height / 2
    matrices = {"cam2img": cam2img, "cam2ego": cam2ego, "img_aug_mat": torch.eye(4)}
    return {key: value[None, None] for key, value in matrices.items()}


def test_a_wall_is_occupied_what_lies_before_it_free_and_behind_unknown():
    depth = torch.full((1, 1, 24, 24), 5.25)
    (labels,) = occupancy_from_depth(depth, forward_camera(), RANGE, VOXEL, stride=1)
    assert labels.shape == (24, 8, 8)
    # The focal length of half the width gives a view of 90 degrees: at 5.25 m all of y and z.
    wall = int((5.25 + 2) / VOXEL)
    assert (labels[wall] == OCCUPIED).all()
    assert (labels[wall + 1 :] == UNKNOWN).all()
    middle = labels[4:, 4, 4]  # straight ahead from the camera on
    assert (middle[1 : wall - 4 - 2] == FREE).all()
    assert (labels[:4] == UNKNOWN).all()  # behind the camera


def test_far_pixels_free_their_rays_and_pixels_without_depth_say_nothing():
    far = occupancy_from_depth(torch.full((1, 1, 24, 24), 80.0), forward_camera(), RANGE, VOXEL)
    assert (far != OCCUPIED).all() and (far == FREE).any()
    none = occupancy_from_depth(torch.zeros(1, 1, 24, 24), forward_camera(), RANGE, VOXEL)
    assert (none == UNKNOWN).all()


def test_rows_of_far_ground_are_joined():
    camera, rows = forward_camera(focal=24.0), torch.arange(24) + 0.5
    height = 0.75  # of the camera above the ground, metres
    slope = (rows - 12) / 24.0
    depth = torch.where(slope > 0, height / slope.clamp(min=1e-6), torch.tensor(100.0))
    depth = depth[None, None, :, None].expand(1, 1, 24, 24)
    (labels,) = occupancy_from_depth(depth, camera, RANGE, VOXEL)
    ground = labels[:, 4, 2]  # z from -1 to -0.5 m holds the ground at -0.75
    # Rows hit it 2.1, 2.4, 2.8, 3.3, 4.0 and 5.1 m ahead, and further rows are another surface.
    seen = ground[8:15]
    assert (seen == OCCUPIED).all()


def test_samples_of_a_batch_are_labelled_each_by_its_own():
    depth = torch.tensor([5.25, 0.0, 3.25]).view(3, 1, 1, 1).expand(3, 1, 24, 24)
    cameras = {key: value.expand(3, 1, 4, 4) for key, value in forward_camera().items()}
    labels = occupancy_from_depth(depth, cameras, RANGE, VOXEL)
    assert [(one == OCCUPIED).any(2).any(1).nonzero().flatten().tolist() for one in labels] == [
        [14],
        [],
        [10],
    ]
    assert (labels[1] == UNKNOWN).all()


def test_volume_loss_is_one_minus_soft_iou():
    labels = torch.tensor([OCCUPIED, OCCUPIED, FREE, UNKNOWN]).view(4, 1, 1)
    full = torch.tensor([1e3, 1e3, 0.0, 1e3]).view(4, 1, 1)
    assert volume_loss(full, labels, 1.0).item() == 0.0
    half = torch.tensor([1e3, 0.0, 1e3, 0.0], requires_grad=True)
    # One hit; two occupied and one false: IoU 1 / 3.
    loss = volume_loss(half.view(4, 1, 1), labels, 1.0)
    assert abs(loss.item() - 2 / 3) < 1e-6
    density = torch.full((4,), 0.3, requires_grad=True)
    volume_loss(density.view(4, 1, 1), labels, 2.0).backward()
    assert density.grad[0] < 0 < density.grad[2] and density.grad[3] == 0
