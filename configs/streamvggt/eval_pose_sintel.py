# Camera paths on Sintel (14 sequences): ATE and RPE after Sim(3) alignment.
_base_ = ["./eval_base.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="sintel",
        data_root={{_base_.data_root}},
        resize="eval",
        pose_only=True,
    ),
)
test_evaluator = dict(type="TrajectoryMetric")
