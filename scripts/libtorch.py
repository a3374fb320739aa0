#!/usr/bin/env python3
"""Prepares LibTorch 2.9.0 for the CPU under `.cache/libtorch/`, from PyPI wheels.

In: the network, unless the folder exists. Out: a folder for the environment variable LIBTORCH; its
path goes to standard output. `tch` 0.22 needs exactly LibTorch 2.9.0. The wheel of torch is built
for CUDA. To load, its CPU half needs `libcudart` and `libcupti`, which come from two small wheels,
and a `libtorch.so` that links only the CPU half, which gcc makes. CUDA itself is not used. 427 MB
on disk, 911 MB to download.

Needs Python 3.11 with pip, and gcc, on Linux x86-64. Usage: python3 scripts/libtorch.py
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from pypi import CACHE, FetchError, run, wheel

# Fixed, so that the wheel does not depend on the Python that runs this script.
PLATFORM = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")
CUDA_PLATFORM = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11")
TORCH = (
    "torch==2.9.0",
    "torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    "51de31219c97c51cf4bf2be94d622e3deb5dcc526c6dc00e97c17eaec0fc1d67",
    900,
)
CUDA = [
    (
        "nvidia-cuda-runtime-cu12==12.8.90",
        "nvidia_cuda_runtime_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90",
        1,
    ),
    (
        "nvidia-cuda-cupti-cu12==12.8.90",
        "nvidia_cuda_cupti_cu12-12.8.90-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182",
        10,
    ),
]
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.12", "libcupti.so.12"}

LIBTORCH = CACHE / "libtorch"


def extract(archive_path: Path, into: Path) -> None:
    """Extracts the wheel's headers and `LIBRARIES` to where LibTorch has them."""
    with zipfile.ZipFile(archive_path) as archive:
        for entry in archive.infolist():
            path = Path(entry.filename)
            if path.name in LIBRARIES and path.parent.name == "lib":
                target = into / "lib" / path.name
            elif path.parts[:2] == ("torch", "include") and not entry.is_dir():
                target = into.joinpath(*path.parts[1:])
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as member, target.open("wb") as file:
                shutil.copyfileobj(member, file)


def stub(lib: Path) -> None:
    """Makes `libtorch.so` as in the CPU distribution: a library that only loads the CPU half."""
    command = ["gcc", "-shared", "-o", str(lib / "libtorch.so"), "-Wl,--no-as-needed", f"-L{lib}", "-ltorch_cpu", "-lc10"]
    try:
        done = subprocess.run(command, check=False)
    except FileNotFoundError as error:
        raise FetchError("`gcc` is not there", "install a C compiler") from error
    if done.returncode != 0:
        raise FetchError("`gcc` could not link `libtorch.so`", "its own message is above")


def prepare() -> Path:
    if LIBTORCH.is_dir():
        return LIBTORCH
    if sys.platform != "linux":
        raise FetchError(
            "this script knows the wheels for Linux on x86-64 alone",
            "download LibTorch 2.9.0 from pytorch.org and set LIBTORCH to its folder",
        )
    with tempfile.TemporaryDirectory(prefix="libtorch-", dir=CACHE) as folder:
        made = Path(folder) / "libtorch"
        extract(wheel(*TORCH, Path(folder), *PLATFORM), made)
        for package in CUDA:
            extract(wheel(*package, Path(folder), *CUDA_PLATFORM), made)
        missing = LIBRARIES - {path.name for path in (made / "lib").iterdir()}
        if missing:
            raise FetchError(f"the wheels do not hold {', '.join(sorted(missing))}", "try again")
        stub(made / "lib")
        made.rename(LIBTORCH)
    return LIBTORCH


if __name__ == "__main__":
    sys.exit(run(prepare))
