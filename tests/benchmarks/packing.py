"""How fast raw data are packed, beside what decoding their PNGs alone costs, and how much memory it takes.

    python tests/benchmarks/packing.py

Makes frames of 224 pixels in a temporary folder (0.2 GB) and takes about a minute on two cores.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 224
SAMPLES = 120  # packed to measure the speed
SETTLED = 20  # samples after which all processes are at work
MEMORY_SAMPLES = (60, 240)  # packed to measure the memory
NOISE = 3.0  # grey levels; gives PNGs of about 90 kB, as those of a real camera
REPEATS = 3  # the fastest counts
DIFFERENT = 10  # frames; the files repeat them
ROOT = Path(__file__).resolve().parents[2]

# Run in a process of its own, whose peak memory is then that of packing alone.
PACK = """
import json, sys, time
from pathlib import Path
from pipeline.data.layout import open_raw
from pipeline.data.pack import pack_raw

def main():
    root, out, processes, settled = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    times = [time.perf_counter()]
    pack_raw(open_raw(root), out, "", False, processes, lambda: times.append(time.perf_counter()))
    rate = (len(times) - 1 - settled) / (times[-1] - times[settled])
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(json.dumps([rate, times[1] - times[0], int(peak) / 1000]))

if __name__ == "__main__":
    main()
"""
SAVE = """
import sys, numpy, torch
folder, count = sys.argv[1], int(sys.argv[2])
made = numpy.load(folder + "/made.npz")
rgb, depth = (numpy.resize(made[name], (count, *made[name].shape[1:])) for name in ("rgb", "depth"))
ids = [str(number) for number in range(count)]
torch.save((torch.from_numpy(rgb), torch.from_numpy(depth.astype("float32")), ids), folder + "/testX.pt")
"""


def frames(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Smooth scenes with sensor noise: uint8 [N, 3, 3, H, W] by view and colour, uint16 mm [N, 3, H, W]."""
    random = np.random.default_rng(0)
    rgb = np.empty((count, 3, 3, SIZE, SIZE), np.uint8)
    for picture in rgb.reshape(-1, 3, SIZE, SIZE):
        coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        smooth = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).filter(ImageFilter.BLUR)
        noisy = np.asarray(smooth) + random.normal(0, NOISE, (SIZE, SIZE, 3))
        picture[:] = noisy.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    depth = random.integers(400, 1500, (count, 3, SIZE, SIZE), dtype=np.uint16)
    return rgb, depth


def write_folders(root: Path, count: int) -> Path:
    """`count` samples without labels in the form of folders."""
    rgb, depth = frames(DIFFERENT)
    for number in range(count):
        folder, source = root / "test" / "X" / str(number), number % DIFFERENT
        (folder / "rgb").mkdir(parents=True)
        for view in range(3):
            copy = root / "test" / "X" / str(source) / "rgb" / f"{view}.png"
            target = folder / "rgb" / f"{view}.png"
            if number == source:
                Image.fromarray(rgb[source, view].transpose(1, 2, 0)).save(target)
            else:
                target.write_bytes(copy.read_bytes())
        np.save(folder / "depth.npy", depth[source].astype(np.float32))
        (folder / "field_id.pkl").write_bytes(pickle.dumps(str(number)))
    return root


def write_tensors(root: Path, count: int) -> Path:
    """The same in the form of tensors; saved by another process, which gives torch's memory back."""
    rgb, depth = frames(DIFFERENT)
    root.mkdir()
    np.savez(root / "made.npz", rgb=rgb, depth=depth)
    subprocess.run([sys.executable, "-c", SAVE, str(root), str(count)], check=True)
    return root


def decode(folder: Path) -> None:
    """Decodes the three PNGs of a sample."""
    for view in range(3):
        with Image.open(folder / "rgb" / f"{view}.png") as image:
            np.asarray(image)


def decoding(root: Path, processes: int) -> float:
    """Samples a second when their PNGs are decoded, and nothing else, by processes that are at work."""
    folders = list((root / "test" / "X").iterdir())
    with Pool(processes) as pool:
        pool.map(decode, folders[:SETTLED])
        started = time.perf_counter()
        pool.map(decode, folders, chunksize=1)
        return len(folders) / (time.perf_counter() - started)


def packing(script: Path, root: Path, processes: int) -> tuple[float, float, float]:
    """Samples a second once settled, seconds to the first sample, peak memory of the first process in MB."""
    out = root.with_suffix(".packed")
    command = [sys.executable, str(script), str(root), str(out), str(processes), str(SETTLED)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(out)
    rate, start, megabytes = json.loads(printed)
    return rate, start, megabytes


def show_speed(home: Path, script: Path) -> None:
    folders = write_folders(home / "folders", SAMPLES)
    tensors = write_tensors(home / "tensors", SAMPLES)
    print(f"samples/s, {SAMPLES} samples of {SIZE} x {SIZE}, best of {REPEATS}")
    for processes in (1, 2):
        many = f"{processes} process{'es' * (processes > 1)}"
        alone = max(decoding(folders, processes) for _ in range(REPEATS))
        print(f"  {f'PNG decoding alone, {many}':34}{alone:9.1f}", flush=True)
        for name, root in (("folders", folders), ("tensors", tensors)):
            rate, start, _ = max(packing(script, root, processes) for _ in range(REPEATS))
            found = f"{rate / alone:4.2f} of decoding; {start:.1f} s to the first sample"
            print(f"  {f'packing {name}, {many}':34}{rate:9.1f}   {found}", flush=True)


def show_memory(home: Path, script: Path) -> None:
    print("peak memory in MB, 1 process")
    for count in MEMORY_SAMPLES:
        for name, write in (("folders", write_folders), ("tensors", write_tensors)):
            *_, megabytes = packing(script, write(home / f"{name}{count}", count), 1)
            print(f"  {name}, {count:3} samples{megabytes:16.1f}", flush=True)


def main() -> None:
    """Prints both tables."""
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        script = home / "pack.py"
        script.write_text(PACK, encoding="utf-8")
        show_speed(home, script)
        show_memory(home, script)


if __name__ == "__main__":
    main()
