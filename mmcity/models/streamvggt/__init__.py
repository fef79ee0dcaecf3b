"""StreamVGGT and VGGT: poses, depth, points and tracks of image sequences."""

from .aggregator import Aggregator
from .cache import StreamCache, build_policy
from .camera_head import CameraHead
from .distill_loss import DistillationLoss
from .dpt_head import DPTHead
from .ground_truth_loss import GroundTruthLoss
from .outputs import split_frames
from .pose_encoding import decode_pose, encode_pose, unproject_depth
from .session import StreamSession
from .stream_vggt import StreamVGGT
from .supervised_loss import PoseRegressionLoss
from .teacher_then_student import TeacherThenStudent
from .track_head import TrackHead
from .vggt import VGGT

__all__ = [
    "VGGT",
    "Aggregator",
    "CameraHead",
    "DPTHead",
    "DistillationLoss",
    "GroundTruthLoss",
    "PoseRegressionLoss",
    "StreamCache",
    "StreamSession",
    "StreamVGGT",
    "TeacherThenStudent",
    "TrackHead",
    "build_policy",
    "decode_pose",
    "encode_pose",
    "split_frames",
    "unproject_depth",
]
