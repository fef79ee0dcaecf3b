# Video depth on KITTI.
_base_ = ["./eval_video_depth.py"]

test_dataloader = dict(dataset=dict(layout="kitti"))
test_evaluator = dict(max_depth=None, post_clip=None)
