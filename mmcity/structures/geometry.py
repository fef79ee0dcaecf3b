"""Rotations, rigid motions and similarities for batches of any leading shape.

Quaternions are ``wxyz``; rotation matrices act on column vectors; a matrix ``a_to_b`` takes
points of a to b; camera axes are OpenCV's (x right, y down, z forward). Functions are
differentiable in torch and also take numpy arrays, for which they return numpy arrays.
"""

import functools

import numpy as np
import torch
from torch import Tensor

#: Right-multiply a camera-to-world matrix by it: OpenGL axes (y up, z back) become OpenCV's.
OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def _takes_numpy(function):
    """Let a torch function take numpy arrays, and answer in kind when no tensor came."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        values = [*args, *kwargs.values()]
        if any(isinstance(v, Tensor) for v in values):
            return function(*args, **kwargs)
        if not any(isinstance(v, np.ndarray | list | tuple) for v in values):
            return function(*args, **kwargs)

        def convert(value):
            if isinstance(value, np.ndarray | list | tuple):
                value = np.asarray(value)
                return torch.from_numpy(
                    value if value.dtype in (np.float32, bool) else value.astype(np.float64)
                )
            return value

        out = function(*map(convert, args), **{k: convert(v) for k, v in kwargs.items()})
        return tuple(o.numpy() for o in out) if isinstance(out, tuple) else out.numpy()

    return wrapper


def _unit(vectors: Tensor, eps: float = 1e-12) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(eps)


# ---------------------------------------------------------------- quaternions


@_takes_numpy
def quat_normalize(quats: Tensor, eps: float = 1e-12) -> Tensor:
    """Quaternions ``(..., 4)`` of unit length."""
    return _unit(quats, eps)


@_takes_numpy
def quat_to_rotmat(quats: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` of quaternions ``(..., 4)`` of any length above 0."""
    w, x, y, z = quat_normalize(quats).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


@_takes_numpy
def rotmat_to_quat(rotmats: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)`` with ``w >= 0`` of rotation matrices ``(..., 3, 3)``.

    Of the four equivalent formulas (one per component) the one with the largest divisor is
    taken for each matrix, which keeps the result accurate at half turns.
    """
    m = rotmats
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the square of each component.
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    a, b, c = (m[..., i, j] - m[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    d, e, f = (m[..., i, j] + m[..., j, i] for i, j in ((1, 0), (0, 2), (2, 1)))
    # Row k is 4 q_k times the quaternion.
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], -1),
            torch.stack([a, squares[..., 1], d, e], -1),
            torch.stack([b, d, squares[..., 2], f], -1),
            torch.stack([c, e, f, squares[..., 3]], -1),
        ],
        dim=-2,
    )  # (..., 4, 4)
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quats = quat_normalize(candidates.gather(-2, best).squeeze(-2))
    return torch.where(quats[..., :1] < 0, -quats, quats)


@_takes_numpy
def quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product ``(..., 4)``; the rotation b first, then a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


@_takes_numpy
def quat_slerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Spherical interpolation along the shorter arc.

    Args:
        a (Tensor): ``(..., 4)`` at t = 0.
        b (Tensor): ``(..., 4)`` at t = 1.
        t (Tensor | float): ``(...)`` or a number.

    Returns:
        Tensor: ``(..., 4)`` unit quaternions.
    """
    a, b = quat_normalize(a), quat_normalize(b)
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    dot = (a * b).sum(-1, keepdim=True)
    b = torch.where(dot < 0, -b, b)
    angle = torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True)) * 2
    near = angle < 1e-4  # sin(angle) cancels; the chord is as good there
    safe = torch.where(near, torch.ones_like(angle), angle)
    weight_a = torch.where(near, 1 - t, torch.sin((1 - t) * safe) / torch.sin(safe))
    weight_b = torch.where(near, t.expand_as(angle), torch.sin(t * safe) / torch.sin(safe))
    return quat_normalize(weight_a * a + weight_b * b)


@_takes_numpy
def axis_angle_to_quat(axis_angle: Tensor) -> Tensor:
    """Quaternions ``(..., 4)`` of rotation vectors ``(..., 3)`` (axis times radians)."""
    square = (axis_angle * axis_angle).sum(-1, keepdim=True)
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    half_sinc = torch.where(small, 0.5 - square / 48, torch.sin(angle / 2) / angle)
    cos = torch.where(small, 1 - square / 8, torch.cos(angle / 2))
    return torch.cat([cos, axis_angle * half_sinc], dim=-1)


@_takes_numpy
def quat_to_axis_angle(quats: Tensor) -> Tensor:
    """Rotation vectors ``(..., 3)`` with an angle of at most pi."""
    quats = quat_normalize(quats)
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    w, v = quats[..., :1], quats[..., 1:]
    square = (v * v).sum(-1, keepdim=True)
    small = square < 1e-12
    norm = torch.where(small, torch.ones_like(square), square).sqrt()
    return v * torch.where(small, 2 / w.clamp_min(0.5), 2 * torch.atan2(norm, w) / norm)


@_takes_numpy
def axis_angle_to_rotmat(axis_angle: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` of rotation vectors ``(..., 3)``."""
    return quat_to_rotmat(axis_angle_to_quat(axis_angle))


@_takes_numpy
def rotmat_to_axis_angle(rotmats: Tensor) -> Tensor:
    """Rotation vectors ``(..., 3)`` of rotation matrices ``(..., 3, 3)``."""
    return quat_to_axis_angle(rotmat_to_quat(rotmats))


@_takes_numpy
def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in radians ``(...)`` between rotation matrices ``(..., 3, 3)``, accurate near 0."""
    return rotmat_to_axis_angle(a.transpose(-1, -2) @ b).norm(dim=-1)


@_takes_numpy
def rotation_6d_to_rotmat(vectors: Tensor, eps: float = 1e-12, guarded: bool = False) -> Tensor:
    """Rotation matrices from two 3-vectors, the first two columns before orthogonalising.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks":
    x = n(a), z = n(x cross b), y = z cross x, R = [x y z].

    Args:
        vectors (Tensor): ``(..., 6)``, a then b.
        eps (float): Smallest length that is divided by. Defaults to 1e-12.
        guarded (bool): Replace directions that a degenerate input leaves undefined (a = 0,
            b parallel to a) by fixed ones, so that the result always is a rotation; else
            these columns are zero. Defaults to False.

    Returns:
        Tensor: ``(..., 3, 3)``.
    """

    a, b = vectors[..., :3], vectors[..., 3:]
    if guarded:
        tiny = 1e-6
        axes = torch.eye(3, dtype=a.dtype, device=a.device)
        a_is_zero = a.norm(dim=-1, keepdim=True) < tiny
        a = torch.where(a_is_zero, axes[0], a)
        x = _unit(a, eps)
        is_parallel = torch.linalg.cross(x, b).norm(dim=-1, keepdim=True) < tiny
        # The axis that is farthest from x spans a plane with it.
        other = axes[x.abs().argmin(dim=-1)]
        b = torch.where(is_parallel, other, b)
    x = _unit(a, eps)
    z = _unit(torch.linalg.cross(x, b), eps)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)


# ---------------------------------------------------------------- rigid motions


@_takes_numpy
def skew(vectors: Tensor) -> Tensor:
    """Matrices ``(..., 3, 3)`` with ``skew(v) @ u = v cross u``."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


@_takes_numpy
def se3_from_rt(rotmats: Tensor, translations: Tensor) -> Tensor:
    """``(..., 4, 4)`` matrices from ``(..., 3, 3)`` and ``(..., 3)``."""
    top = torch.cat([rotmats, translations[..., None]], dim=-1)
    bottom = top.new_zeros(*top.shape[:-2], 1, 4)
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)


@_takes_numpy
def se3_inverse(matrices: Tensor) -> Tensor:
    """Inverse of rigid ``(..., 4, 4)`` matrices (rotation part orthonormal)."""
    turned = matrices[..., :3, :3].transpose(-1, -2)
    return se3_from_rt(turned, -(turned @ matrices[..., :3, 3:]).squeeze(-1))


@_takes_numpy
def transform_points(matrices: Tensor, points: Tensor) -> Tensor:
    """Points ``(..., N, 3)`` carried by ``(..., 3|4, 4)`` matrices (affine part only)."""
    linear, offset = matrices[..., :3, :3], matrices[..., :3, 3]
    return points @ linear.transpose(-1, -2) + offset[..., None, :]


def _left_jacobian_terms(square: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - cos t) / t^2 and (t - sin t) / t^3 of t^2, by series near 0."""
    small = square < 1e-4
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    b = torch.where(small, 0.5 - square / 24 + square**2 / 720, (1 - angle.cos()) / safe)
    c = torch.where(
        small, 1 / 6 - square / 120 + square**2 / 5040, (angle - angle.sin()) / (safe * angle)
    )
    return b, c


def _left_jacobian(rotation: Tensor) -> Tensor:
    square = (rotation * rotation).sum(-1)[..., None, None]
    b, c = _left_jacobian_terms(square)
    k = skew(rotation)
    return torch.eye(3, dtype=k.dtype, device=k.device) + b * k + c * (k @ k)


@_takes_numpy
def se3_exp(tangent: Tensor) -> Tensor:
    """``(..., 4, 4)`` rigid motions of twists ``(..., 6)``: translation part, then rotation."""
    shift, rotation = tangent[..., :3], tangent[..., 3:]
    translation = (_left_jacobian(rotation) @ shift[..., None]).squeeze(-1)
    return se3_from_rt(axis_angle_to_rotmat(rotation), translation)


@_takes_numpy
def se3_interpolate(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Poses ``(..., 4, 4)`` between a and b: slerp of the rotation, line of the translation."""
    qa, qb = rotmat_to_quat(a[..., :3, :3]), rotmat_to_quat(b[..., :3, :3])
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)
    shift = a[..., :3, 3] + t[..., None] * (b[..., :3, 3] - a[..., :3, 3])
    return se3_from_rt(quat_to_rotmat(quat_slerp(qa, qb, t)), shift)


@_takes_numpy
def look_at(eye: Tensor, target: Tensor, up: Tensor | None = None) -> Tensor:
    """World-to-camera matrices of cameras that look at a point.

    Args:
        eye (Tensor): ``(..., 3)`` camera centres.
        target (Tensor): ``(..., 3)`` points in the middle of the picture.
        up (Tensor, optional): ``(..., 3)`` direction that is up in the picture. Where it is
            parallel to the view, another axis takes its place. Defaults to +z.

    Returns:
        Tensor: ``(..., 4, 4)``, OpenCV axes.

    Raises:
        ValueError: If an eye coincides with its target.
    """
    eye, target = torch.broadcast_tensors(eye, target)
    up = eye.new_tensor([0.0, 0.0, 1.0]) if up is None else up.to(eye)
    forward = target - eye
    if (forward.norm(dim=-1) < 1e-12).any():
        raise ValueError("look_at: expected targets away from the eyes, got an eye at its target")
    forward = _unit(forward)
    up = up.expand_as(forward)
    is_parallel = torch.linalg.cross(forward, up).norm(dim=-1, keepdim=True) < 1e-6
    other = torch.eye(3, dtype=eye.dtype, device=eye.device)[forward.abs().argmin(dim=-1)]
    right = _unit(torch.linalg.cross(forward, torch.where(is_parallel, other, up)))
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    return se3_from_rt(rotation, -(rotation @ eye[..., None]).squeeze(-1))
