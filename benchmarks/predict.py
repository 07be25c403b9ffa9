"""How fast images become expressions: one image, faces in batches, a folder; in one run, beside other programs: python benchmarks/predict.py --out t.csv

The images are 640 x 480 photographs and noise with three synthetic faces each (benchmarks/detect.py). `--fer PYTHON` is the Python of another
environment with the package `fer` (pip install fer), which reads the same folder with its own detector and network.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from psr_fer.predict import Predictor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from detect import Scene, make_scene, synthetic  # noqa: E402 - benchmarks/detect.py

COMMAND = [sys.executable, "-c", "from psr_fer.cli import main; main()", "predict"]
FER = """
import sys, time, cv2
from pathlib import Path
from fer.fer import FER
detector, start, n = FER(mtcnn={mtcnn}), time.perf_counter(), 0
for o in sorted(Path(sys.argv[1]).iterdir()): n += len(detector.detect_emotions(cv2.imread(str(o))))
print(n, time.perf_counter() - start)
"""


def seconds(*command): # seconds, peak memory in MB of the largest child so far, output
    start = time.perf_counter()
    out = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024, out


def faces_of(table): return int(pd.read_csv(table)["label"].notna().sum())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=200, help="images of the folder")
    p.add_argument("--fer", help="Python with the package fer")
    p.add_argument("--out", type=Path, help="CSV file")
    a = p.parse_args()
    rows, rng = [], np.random.default_rng(0)
    def add(what, value, unit, note=""): rows.append(dict(what=what, value=value, unit=unit, note=note)); print(f"{what}: {value:.3g} {unit} {note}", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        folder, people = Path(tmp)/"folder", synthetic(64)
        folder.mkdir()
        for i in range(a.images): make_scene(rng, people, Scene(crowd=3))[0].save(folder/f"{i:04}.jpg", quality=92)
        one = folder/"0000.jpg"
        add("psr-fer predict, one image, from start to table", statistics.median(seconds(*COMMAND, one)[0] for _ in range(7)), "s", "median of 7")
        for backend in ("onnx", "torch"):
            predictor = Predictor(backend=backend)
            for n in (1, 64):
                crops = rng.integers(0, 255, (n, 1, *predictor.size), np.uint8)
                def call(o=predictor, x=crops):
                    start = time.perf_counter()
                    o.probabilities(x)
                    return time.perf_counter() - start
                call()
                add(f"bundled weights, {backend}, {n} face{'s' if n > 1 else ''} at a time", 1000*statistics.median(call() for _ in range(20))/n, "ms per face", "branches and temperature included")
        for detector in ("centerface", "haar"):
            took, memory, _ = seconds(*COMMAND, folder, "--detector", detector, "--out", table := Path(tmp)/f"{detector}.csv")
            add(f"folder of {a.images} images, {detector}", a.images/took, "images per second", f"{faces_of(table)} of {3*a.images} faces, {memory:.0f} MB")
        for mtcnn in (False, True) if a.fer else ():
            n, took = seconds(a.fer, "-c", FER.format(mtcnn=mtcnn), folder)[2].split()[-2:]
            add(f"the same folder, package fer, {'MTCNN' if mtcnn else 'its default detector'}", a.images/float(took), "images per second", f"{n} of {3*a.images} faces, without its start")
    if a.out: pd.DataFrame(rows).assign(threads=os.environ.get("OMP_NUM_THREADS", os.cpu_count())).to_csv(a.out, index=False)


if __name__ == "__main__": main()
