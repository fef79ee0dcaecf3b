# Multi-view reconstruction on 7-Scenes.
_base_ = ["./eval_base.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="7scenes",
        data_root={{_base_.data_root}},
        resize="principal_point",
        image_size=(392, 518),  # height, width
    ),
)
test_evaluator = dict(
    type="ReconstructionMetric",
    use_proj=False,  # True: points from depth and camera instead of the point head
    crop=224,
    icp_threshold=0.1,
    out_dir={{_base_.out_dir}},
)
