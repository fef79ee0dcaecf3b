# What the evaluation suites share; the suites build on it.
_base_ = ["./streamvggt_1b.py"]

data_root = "data/"  # holds sintel/, bonn/, kitti/, nyu_v2/, scannetv2/, tum/, 7scenes/, ..
out_dir = "eval_results"
model_name = "streamvggt"  # part of the names of result files

# Frame by frame, as the published numbers were made; policy="window(60)" bounds the memory,
# camera_cache_mode="upstream" repeats the published streaming loop to the bit.
model = dict(predict_stream=dict(policy="full", camera_cache_mode="per_iteration"))
test_cfg = dict(type="TestLoop")  # tools/test.py --amp: half precision
default_hooks = dict(cache_size=dict(type="CacheSizeHook"))  # logs how large the cache gets
