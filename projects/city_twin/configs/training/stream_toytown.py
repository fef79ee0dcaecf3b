# The small streaming network on surveys of other toy towns, shorter than on street videos.
_base_ = ["../../../../configs/streamvggt/streamvggt_toytown_cpu.py"]

teacher_iters = 500  # training steps of the teacher
student_iters = 200  # of the student
warmup_iters = 50
batch_size = 2
max_iters = teacher_iters + student_iters

model = dict(teacher_iters=teacher_iters)
train_dataloader = dict(dataset=dict(quotas=[max_iters * batch_size]))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineRestartLR",
        by_epoch=False,
        begin=warmup_iters,
        periods=[teacher_iters - warmup_iters, student_iters],
        restart_weights=[1.0, 0.4],
        eta_min_ratio=0.02,
    ),
]
