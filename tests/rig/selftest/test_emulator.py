"""The emulator reports the fault of each kernel in faults.cu, and none of a good one."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from virtual_cuda import build, translate

FAULTS = {
    "missing_barrier": "race on values|unwritten values",
    "missing_syncwarp": "race on values",
    "divergent_barrier": "barrier reached at different places",
    "lane_never_comes": "threads wait for ever",
    "reads_ended_lane": "reads lane 7, which does not take part",
    "out_of_bounds": "outside all memory|over the end",
    "plain_sum": "race on device memory",
    "host_memory": "outside all memory",
}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    translate.translate(Path(__file__).with_name("faults.cu"), folder / "faults.cpp")
    include = ["-I", str(build.SOURCE / "include")]
    flags = ["g++", "-std=c++20", "-O1", "-g", "-w", *include]
    checked = ["-fsanitize=thread", "-D__CUDA_ARCH__=900", "-include", "cuda_runtime.h"]
    objects = []
    for source in (*(build.SOURCE / f"{n}.cpp" for n in build.ENGINE), folder / "faults.cpp"):
        extra = checked if source.stem == "faults" else []
        objects.append(str(folder / f"{source.stem}.o"))
        subprocess.run([*flags, *extra, "-c", str(source), "-o", objects[-1]], check=True)
    target = str(folder / "faults")
    subprocess.run(["g++", "-rdynamic", "-o", target, *objects, "-ldl"], check=True)
    return target


def run(program, name, seed):
    env = dict(os.environ, VIRTUAL_CUDA_SEED=str(seed), VIRTUAL_CUDA="0")
    return subprocess.run([program, name], capture_output=True, text=True, env=env, timeout=60)


@pytest.mark.parametrize("seed", range(4))
def test_a_good_kernel_passes(program, seed):
    done = run(program, "good", seed)
    assert done.returncode == 0 and done.stdout == "sum 2016\n", done.stdout + done.stderr


def test_every_fault_of_the_file_is_expected():
    kernels = re.findall(
        r"__global__ void (\w+)", Path(__file__).with_name("faults.cu").read_text()
    )
    assert set(kernels) == {"good", *FAULTS}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(program, name, seed):
    done = run(program, name, seed)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(FAULTS[name], done.stdout), done.stdout
