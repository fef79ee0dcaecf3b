# Multi-view reconstruction on Neural-RGBD.
_base_ = ["./eval_mv_recon_7scenes.py"]

test_dataloader = dict(dataset=dict(layout="neural_rgbd"))
