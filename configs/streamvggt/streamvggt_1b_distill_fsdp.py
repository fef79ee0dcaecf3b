# The distillation with parameters, gradients and optimiser state spread over the GPUs.
#   tools/dist_train.sh configs/streamvggt/streamvggt_1b_distill_fsdp.py 8
_base_ = ["./streamvggt_1b_distill.py"]

runner_type = "FlexibleRunner"
strategy = dict(type="FullyShardStrategy", reshard_after_forward=True)
# This runner writes its own kind of checkpoint.
default_hooks = dict(
    checkpoint=dict(_delete_=True, type="CheckpointHook", interval=975, by_epoch=False)
)
