# Video depth on Bonn.
_base_ = ["./eval_video_depth.py"]

test_dataloader = dict(dataset=dict(layout="bonn"))
test_evaluator = dict(max_depth=70, post_clip=None)
