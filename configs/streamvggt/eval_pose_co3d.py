# Relative camera poses on Co3Dv2: AUC over all pairs of ten frames.
_base_ = ["./eval_base.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EvalSequenceDataset",
        layout="co3d",
        data_root={{_base_.data_root}},
        resize="crop",
        annotations="co3d_annotations",  # folder with CATEGORY_test.jgz
        max_sequences=None,  # 10: the fast evaluation, random sequences per category
    ),
)
test_evaluator = dict(type="RelativePoseMetric", auc_degrees=(30, 15, 5, 3))
