"""Our modules against the numbers of the authors' program, and against a plain second implementation for cases it was not run on."""
import json
from pathlib import Path

import authors
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from psr_fer.models.convert import from_authors
from psr_fer.models.edsr import EDSR, load_edsr

GOLDEN = Path(__file__).parent/"golden"
CLOSE = dict(atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def golden():
    case = json.loads((GOLDEN/"psr_ferplus_96.json").read_text())
    sd = authors.fill(case["shapes"], case["seed"])
    want = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN/"psr_ferplus_96.npz").items()}
    return case, sd, authors.inputs(case["seed"], case["batch"], case["size"]), want


def ours(model, x):
    with torch.no_grad():
        images = model.images(x)
        return dict(stn=images[-1], sr=images[1:-1], branches=model.branches(x).transpose(1, 2), fused=model(x).exp())


def test_golden_numbers(golden):
    case, sd, x, want = golden
    model = from_authors(sd, case["size"])
    got = ours(model, x)
    assert_close(got["stn"][:, :, ::4, ::4], want["stn"], **CLOSE)
    assert_close(got["sr"][0][:, :, ::4, ::4], want["sr"], **CLOSE)
    assert_close(got["branches"], want["branches"], **CLOSE)
    assert_close(got["fused"], want["fused"], **CLOSE)
    assert (model.cut.after, model.cut.pos, model.kstep, model.config["n_classes"]) == ("features.23", 7, 1, 8)


def test_reference_is_the_golden_network(golden):
    case, sd, x, want = golden
    assert authors.names(case["size"], case["n_classes"], case["multiples"], case["cut"]) == case["shapes"]
    got = authors.forward(sd, x, case["multiples"], case["cut"])
    for k in ("branches", "fused"): assert_close(got[k], want[k], **CLOSE)
    assert_close(got["stn"][:, :, ::4, ::4], want["stn"], **CLOSE)


# seed, size, classes, kstep, cut: every allowed cut, sizes that do not divide evenly, both ksteps
CASES = [(2, 64, 7, 1, 3), (3, 70, 8, 1, 6), (4, 131, 5, 2, 24), (5, 64, 7, 1, 37)]
MORE = [(6, 100, 7, 1, 24), (7, 129, 7, 2, 20), (8, 65, 2, 1, 10), (9, 64, 8, 1, 14), (10, 64, 8, 1, 17), (11, 66, 8, 1, 27),
        (12, 64, 8, 1, 30), (13, 64, 8, 1, 34)]


@pytest.mark.parametrize("seed,size,n_classes,kstep,cut", CASES + [pytest.param(*o, marks=pytest.mark.slow) for o in MORE])
def test_other_cases(seed, size, n_classes, kstep, cut):
    multiples = [1, 2, 1] if kstep == 1 else [1, 2, 4, 1]
    sd = authors.fill(authors.names(size, n_classes, multiples, cut, n_resblocks=2, n_feats=16), seed)
    x = authors.inputs(seed, 2, size)
    want, model = authors.forward(sd, x, multiples, cut), from_authors(sd, size)
    got = ours(model, x)
    assert model.kstep == kstep and model.cut.pos == sum(i < cut and kind == "conv" for i, kind, *_ in authors.vgg_layers())
    for k in ("stn", "branches", "fused"): assert_close(got[k], want[k], **CLOSE)
    for a, b in zip(got["sr"], want["sr"], strict=True): assert_close(a, b, **CLOSE)


@pytest.mark.slow
def test_wrappers_and_prefixes(golden, tmp_path):
    case, sd, x, want = golden
    torch.save({"model": {f"module.{k}": v for k, v in sd.items()}, "opt": {}}, tmp_path/"final.w")
    with torch.no_grad(): assert_close(from_authors(tmp_path/"final.w", case["size"])(x).exp(), want["fused"], **CLOSE)


def test_damaged_state_dicts(golden):
    case, sd, x, want = golden
    with pytest.raises(ValueError, match="size=100 does not fit"): from_authors(sd, 100)
    less = {k: v for k, v in sd.items() if k != "pyramid_group.2.0.weight"}
    with pytest.raises(ValueError, match="low.2.features.0.weight"): from_authors(less, case["size"])
    with pytest.raises(ValueError, match="stn.extra"): from_authors(sd | {"stn.extra": torch.zeros(1)}, case["size"])
    with pytest.raises(ValueError, match="head"):
        from_authors({k: v for k, v in sd.items() if not k.startswith("classifier.1.0.8")}, case["size"])
    with pytest.raises(ValueError, match="no 'pyramid_group'"): from_authors({}, case["size"])


@pytest.mark.slow
@pytest.mark.parametrize("body,head", [("0.0.", "1."), ("0.", "1."), ("features.", "classifier.")])
def test_plain_network(body, head):
    sd = authors.fill(authors.plain_names(7, body, head), 3)
    x = authors.inputs(3, 2, 64)
    mine = {k.removeprefix(body): v for k, v in sd.items() if k.startswith(body)}
    top = {k.removeprefix(head): v for k, v in sd.items() if k.startswith(head)}
    with torch.no_grad(): assert_close(from_authors(sd, 64)(x), authors.head(authors.vgg(x, mine, 0, 44), top), **CLOSE)


def test_published_edsr_layout(tmp_path):
    "Names and shapes of the published baseline, with its 1x1 mean layers in front and behind."
    sd = authors.fill(authors._edsr_names("", 2, 16, 64), 0)
    assert sum(v.numel() for v in sd.values()) == 1_369_859
    mean = 255*torch.tensor([0.4488, 0.4371, 0.4040])
    for k, sign in (("sub_mean", -1), ("add_mean", 1)): sd |= {f"{k}.weight": torch.eye(3).view(3, 3, 1, 1), f"{k}.bias": sign*mean}
    torch.save(sd, tmp_path/"edsr.pt")
    x = torch.rand(1, 3, 9, 11)*255
    got = load_edsr(tmp_path/"edsr.pt", scale=2)(x)
    want = authors.edsr(x - mean.view(3, 1, 1), sd) + mean.view(3, 1, 1)
    assert_close(got, want, atol=1e-4*want.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_edsr_equals_reference(scale):
    m = EDSR(scale, 3, 8, start="random").eval()
    x = torch.randn(2, 3, 10, 7)
    with torch.no_grad(): assert_close(m(x, shift=False), authors.edsr(x, m.state_dict()), atol=1e-5, rtol=1e-5)
