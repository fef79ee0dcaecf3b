# StreamVGGT-1B: frame by frame with a cache (arXiv 2507.11539). Same parameters as VGGT-1B.
_base_ = ["./vggt_1b.py"]

model = dict(type="StreamVGGT")

# How `mmcity stream` and `StreamingReconstructor` run it; each can be given there too.
stream = dict(
    policy="window(60)",  # full | window(N) | knn(N) | chunk(N, OVERLAP) | diversity(TOKENS) | ..
    cache_dtype=None,  # bf16 | fp8 | int8; None: as computed
    camera_cache_mode="per_iteration",  # "upstream" repeats the published streaming loop
    image_size=518,  # longest image side in pixels
)
