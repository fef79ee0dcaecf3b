# Video depth on Sintel: one scale for a whole sequence.
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
    ),
)
test_evaluator = dict(
    type="SequenceDepthMetric",
    suite="video",
    alignment="scale",  # or "scale&shift", "metric"
    max_depth=70,  # true depths from here on do not count
    post_clip=70,  # predictions are cut here after alignment
    out_dir={{_base_.out_dir}},
    model_name={{_base_.model_name}},
    save_maps=True,
)
