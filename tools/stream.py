"""Reconstruct a stream: ``python tools/stream.py INPUT [INPUT ...] --out DIR``."""

import argparse
import time


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Camera path, depth maps and points of a folder, video or camera"
    )
    parser.add_argument(
        "input",
        nargs="+",
        help="folder of images, video file, or webcam:NUMBER; several are the cameras of a rig",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--config", default="configs/streamvggt/streamvggt_1b.py")
    parser.add_argument("--checkpoint", help="weights; without them the results mean nothing")
    parser.add_argument("--device", help="cpu or cuda[:N]; default: cuda where there is one")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument(
        "--policy",
        help="what the cache keeps: full, window(N), knn(N), chunk(N, OVERLAP), "
        "diversity(TOKENS), query(TOKENS), attention(TOKENS)",
    )
    parser.add_argument("--cache-dtype", choices=["fp32", "bf16", "fp16", "fp8", "int8"])
    parser.add_argument("--camera-cache-mode", choices=["per_iteration", "upstream"])
    parser.add_argument("--image-size", type=int, help="longest side the network sees")
    parser.add_argument("--resize", default="crop", choices=["crop", "pad", "eval"])
    parser.add_argument(
        "--decoder", default="opencv", choices=["opencv", "pyav"], help="of videos and cameras"
    )
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--max-frames", type=int)
    parser.add_argument(
        "--point-head", action="store_true", help="points of the point head, not of the depth"
    )
    parser.add_argument(
        "--percentile", type=float, default=50.0, help="of confidence, below it points are left out"
    )
    parser.add_argument("--max-points", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", default=["ply"], choices=["ply", "glb"])
    parser.add_argument(
        "--viewer",
        type=int,
        nargs="?",
        const=8080,
        metavar="PORT",
        help="show the reconstruction in the browser while it grows",
    )
    parser.add_argument("--no-depth", action="store_true", help="do not write depth maps")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Reconstruct."""
    args = parse_args(argv)

    from mmcity.apis import StreamingReconstructor, StreamWriter, open_source
    from mmcity.utils import check_dependencies

    check_dependencies()
    reconstructor = StreamingReconstructor(
        args.config,
        args.checkpoint,
        device=args.device,
        dtype=args.dtype,
        policy=args.policy,
        cache_dtype=args.cache_dtype,
        camera_cache_mode=args.camera_cache_mode,
        image_size=args.image_size,
        resize=args.resize,
        use_proj=not args.point_head,
    )
    if args.checkpoint is None:
        print("warning: no --checkpoint given, the weights are random", flush=True)
    writer = StreamWriter(
        args.out,
        tuple(args.formats),
        args.max_points,
        args.percentile,
        save_depth=not args.no_depth,
    )
    viewer = None
    if args.viewer is not None:
        from mmcity.visualization.viewer import Viewer

        viewer = Viewer(port=args.viewer, up="-y", title="mmcity stream")
        print(f"live view: {viewer.url}", flush=True)
        reconstructor.callbacks.append(viewer.add_frame)
    sources = [
        open_source(source, args.stride, args.max_frames, args.decoder) for source in args.input
    ]
    results = reconstructor(sources[0]) if len(sources) == 1 else reconstructor.run_rig(sources)
    with writer:
        start = time.perf_counter()
        for result in results:
            writer.write(result)
            now = time.perf_counter()
            mega = reconstructor.cache_nbytes / 2**20
            camera = f" of camera {result.camera}" if len(args.input) > 1 else ""
            print(
                f"frame {result.index}{camera} ({result.name}): {1000 * (now - start):.0f} ms, "
                f"cache {mega:.1f} MiB",
                flush=True,
            )
            start = time.perf_counter()
    print(f"wrote {args.out}")
    if viewer is not None:
        viewer.close()


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
