# Camera paths on ScanNet: ATE and RPE after Sim(3) alignment.
_base_ = ["./eval_base.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="scannet",
        data_root={{_base_.data_root}},
        resize="eval",
    ),
)
test_evaluator = dict(type="TrajectoryMetric")
