# Monocular depth on bonn.
_base_ = ["./eval_monodepth.py"]

test_dataloader = dict(dataset=dict(layout="bonn"))
test_evaluator = dict(max_depth=70, post_clip=None)
