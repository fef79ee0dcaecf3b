# Monocular depth on kitti.
_base_ = ["./eval_monodepth.py"]

test_dataloader = dict(dataset=dict(layout="kitti"))
test_evaluator = dict(max_depth=None, post_clip=None)
