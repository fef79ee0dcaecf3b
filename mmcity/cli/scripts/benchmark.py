"""Measure parts of the toolbox: operators, volumes, networks, and the quality of scenes."""

import argparse
import os
from pathlib import Path

from mmcity.cli import flags
from mmcity.utils.fileio import read_json, to_json, write_json, write_text

EXAMPLE = "python tools/benchmark.py ops --threads 2 --against none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of each part."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")

    def add(run, text: str, repeat: int | None = None) -> argparse.ArgumentParser:
        part = parts.add_parser(run.__name__.strip("_"), help=text, description=run.__doc__)
        part.set_defaults(show=run)
        part.add_argument("--threads", type=int, default=1, help="CPU threads")
        if repeat is not None:
            text = "repetitions, the minimum counts"
            part.add_argument("--repeat", type=int, default=repeat, help=text)
        return part

    part = add(_generation, "a VAE step and a DiT forward pass beside the plain maths", 3)
    part.add_argument("--size", choices=["paper", "small"], default="small", help="model and grid")
    part.add_argument("--batch", type=int, default=2, help="samples of the DiT's pass")
    part.add_argument("--parts", nargs="+", choices=["vae", "dit"], default=["vae", "dit"])

    part = add(_localization, "the pose network beside its plain form; runs of localisation")
    part.add_argument("--size", type=int, nargs=2, default=(240, 427), metavar=("H", "W"))
    part.add_argument("--batch", type=int, default=1)
    part.add_argument("--repeats", type=int, default=5, help="the best counts")
    part.add_argument("--width", type=float, default=1.0, help="of the backbone")
    part.add_argument("--results", nargs="*", default=(), help="results of mmcity localize")

    part = add(_ops, "the native operators and a training step", 7)
    part.add_argument("--backend", choices=["native", "reference"], default="native")
    part.add_argument("--against", choices=["none", "reference", "gsplat"], default="reference")
    flags.add_device(part)
    part.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="wall needs an idle machine"
    )
    part.add_argument("--only", nargs="*", help="names of workloads, or parts of names")
    part.add_argument("--json", type=Path, help="write all figures to this file")
    part.add_argument("--markdown", type=Path, help="write the tables to this file")

    part = add(_scenes, "public captures, trained and tested by a fixed protocol")
    part.add_argument("--only", nargs="+", default=None, help="names of scenes; default: all")
    part.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    part.add_argument("--work-dir", default="outputs/benchmark_scenes", help="for the trainings")
    part.add_argument("--out", type=Path, default="scenes.json", help="JSON file for all figures")

    part = parts.add_parser("compare", help="two files of scenes", description=_compare.__doc__)
    part.set_defaults(show=_compare)
    part.add_argument("old", help="JSON file that scenes wrote")
    part.add_argument("new", help="JSON file that scenes wrote later")

    part = add(_streaming, "StreamVGGT with every cache policy, frame by frame")
    sizes = ["tiny", "small", "medium", "large2", "1b"]
    part.add_argument("--size", default="tiny", choices=sizes)
    part.add_argument("--frames", type=int, default=60)
    part.add_argument("--policies", nargs="+", default=["full", "window(8)", "naive"])
    part.add_argument("--cache-dtype", choices=["fp32", "bf16", "fp16", "fp8", "int8"])
    dtypes = ["fp32", "bf16", "fp16"]
    part.add_argument("--dtype", default="fp32", choices=dtypes, help="of the computation")
    flags.add_device(part)
    part.add_argument("--out", help="JSON file for all numbers")
    part.add_argument("--plot", help="picture of time and memory over frames")

    part = add(_volumes, "the voxelizer beside a loop over Gaussians; operators on points", 7)
    part.add_argument("--no-loop", action="store_true", help="leave the loop out")


def run(args: argparse.Namespace) -> None:
    """Measure a part and print what it gives."""
    # Threads that wait must not burn CPU time where that is measured. Wall time is measured as
    # users meet it: waiting threads spin for a moment, which spares them falling asleep between
    # small loops. The variable is read when torch is imported.
    if getattr(args, "clock", None) != "wall":
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args.show(args)


def _generation(args: argparse.Namespace) -> None:
    """Process CPU time, and the peak of resident memory above that before the pass."""
    from mmcity.workflow.benchmarks import measure_generation

    print(f"size {args.size}, {args.threads} thread(s), minimum of {args.repeat}")
    print(f"{'part':<22}{'form':<18}{'CPU s':>9}{'peak MiB':>10}{'difference':>12}")
    names = {"vae": "VAE training step", "dit": f"DiT forward, batch {args.batch}"}
    for row in measure_generation(args.size, args.batch, args.threads, args.repeat, args.parts):
        form = "straightforward" if row["is_plain"] else "this repository"
        error = "" if row["difference"] is None else f"{row['difference']:.1e}"
        figures = f"{row['seconds']:>9.3f}{row['peak']:>10.0f}{error:>12}"
        print(f"{names[row['part']]:<22}{form:<18}{figures}")


def _localization(args: argparse.Namespace) -> None:
    """CPU milliseconds per image of both forms, and a table of localisation runs."""
    from mmcity.apis import localization_table, read_report
    from mmcity.utils.markdown import markdown_table
    from mmcity.workflow.benchmarks import measure_localization

    found = measure_localization(args.size, args.batch, args.repeats, args.threads, args.width)
    height, width = args.size
    print(f"RAPNet forward, {height}x{width}, batch {args.batch}, {args.threads} thread(s)")
    forms = {"RAPNet": "ms_net", "plain modules, same weights": "ms_plain"}
    rows = [(form, f"{found[key]:.1f}") for form, key in forms.items()]
    print(markdown_table(("form", "CPU ms per image"), rows))
    print(f"largest difference of poses: {found['difference']:.2g}")
    if args.results:
        print(localization_table([read_report(path) for path in args.results]))


def _ops(args: argparse.Namespace) -> None:
    """Milliseconds: thread CPU time, wall time, or CUDA events on a GPU."""
    from mmcity.workflow.benchmarks import measure_ops, ops_tables
    from mmcity.workflow.benchmarks.ops_workloads import garden_folder

    if garden_folder() is None:
        print("garden capture not found below MMCITY_DATA: its workloads are left out")
    names = ("backend", "against", "device", "threads", "clock", "repeat")
    report = measure_ops(**{name: getattr(args, name) for name in names}, only=args.only or ())
    text = ops_tables(report)
    print(text)
    for path, content in ((args.json, to_json(report, indent=2)), (args.markdown, text)):
        if path:
            write_text(path, content)


def _scenes(args: argparse.Namespace) -> None:
    """Quality, size and CPU time of scenes of Gaussians, per scene over several seeds."""
    from mmcity.workflow.benchmarks import scenes_table, train_scenes
    from mmcity.workflow.benchmarks.scenes import SCENES

    scenes = tuple(args.only or SCENES)
    total = len(scenes) * len(args.seeds)
    for report in train_scenes(args.work_dir, scenes, args.seeds, args.threads):
        write_json(args.out, report, indent=1)
        run = report["runs"][-1]
        print(
            f"{len(report['runs'])} of {total}: {run['scene']}, seed {run['seed']}: "
            f"PSNR {run['psnr']:.2f} dB, {run['cpu_seconds']:.0f} s of CPU time",
            flush=True,
        )
    print(scenes_table(report))


def _compare(args: argparse.Namespace) -> None:
    """Figures that rose or fell between two files of scenes beyond the spread of the seeds."""
    from mmcity.workflow.benchmarks import compare_reports, comparison_table

    print(comparison_table(compare_reports(read_json(args.old), read_json(args.new))))


def _streaming(args: argparse.Namespace) -> None:
    """Time and memory per frame; naive is the plain way to write such a network."""
    from mmcity.utils.device import device_at_hand
    from mmcity.workflow.benchmarks import measure_streaming, plot_streaming

    def least(values: list[float], frame: int) -> float:
        # Of the last five frames up to this one: the machine may be shared.
        return min(values[max(0, frame - 5) : frame])

    marks = sorted({1, min(60, args.frames), min(300, args.frames), args.frames})
    columns = " ".join(f"{f'ms @{m}':>10} {f'MiB @{m}':>10}" for m in marks)
    args.device = device_at_hand(args.device)
    print(f"size {args.size}, {args.dtype}, {args.device}")
    print(f"{'policy':24} {columns}")
    names = ("size", "frames", "policies", "cache_dtype", "dtype", "device", "threads")
    results = {}
    for policy, rows in measure_streaming(**{name: getattr(args, name) for name in names}):
        results[policy] = rows
        cells = " ".join(
            f"{least(rows['ms'], m):10.1f} {rows['cache'][m - 1] / 2**20:10.2f}" for m in marks
        )
        print(f"{policy:24} {cells}", flush=True)
    if "naive" in results:
        base = least(results["naive"]["ms"], args.frames)
        for policy, rows in results.items():
            ratio = base / least(rows["ms"], args.frames)
            print(f"{policy}: {ratio:.2f} times as fast as naive at frame {args.frames}")
    if args.out:
        write_json(args.out, results, indent=None)
    if args.plot:
        plot_streaming(results, args.plot)


def _volumes(args: argparse.Namespace) -> None:
    """Milliseconds of process CPU time."""
    from mmcity.utils.markdown import markdown_table
    from mmcity.workflow.benchmarks import measure_volumes

    rows, points = measure_volumes(args.threads, args.repeat, with_loop=not args.no_loop)
    table = []
    for row in rows:
        cells = [row["Gaussians"], row["channels"], row["sigma"]]
        cells += [f"{row['forward']:.1f}", f"{row['both']:.1f}"]
        loop = row.get("loop")
        cells += ["", ""] if loop is None else [f"{loop:.0f}", f"{loop / row['forward']:.0f}x"]
        table.append(cells)
    head = ("Gaussians", "channels", "sigma (m)", "forward", "forward + backward", "loop", "ratio")
    print(markdown_table(head, table))
    for name, ms in points.items():
        print(f"{name}, 1 M points: {ms:.0f}")
