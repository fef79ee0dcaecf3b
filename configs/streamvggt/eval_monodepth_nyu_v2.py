# Monocular depth on nyu_v2.
_base_ = ["./eval_monodepth.py"]

test_dataloader = dict(dataset=dict(layout="nyu_v2"))
test_evaluator = dict(max_depth=None, post_clip=None)
