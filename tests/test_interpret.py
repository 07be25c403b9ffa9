"""What a trained model does: every number against a hand computation or an independent one."""
import time
from dataclasses import replace
from math import comb

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics as skm
import torch
import torch.nn.functional as F
from fastai.data.transforms import Normalize
from PIL import Image
from torch import nn

from psr_fer.data.loaders import dls_from_table
from psr_fer.data.table import finish_table
from psr_fer.emotions import IMAGENET_STATS
from psr_fer.interpret import (
    _map_layer,
    accuracy_by_reduced_size,
    attention_map,
    bootstrap_difference,
    bootstrap_metric,
    branch_predictions,
    branch_report,
    by_size,
    discrepancy,
    gains,
    mean_by_reduced_size,
    pixels,
    plot_attention,
    plot_cumulative,
    plot_discrepancy,
    plot_faces,
    plot_reduced_size,
    plot_stn,
    reduced_size_scores,
    right_by_reduced_size,
    shrink_faces,
    stn_effect,
)
from psr_fer.learner import tta_scores
from psr_fer.metrics import judge
from psr_fer.models.psr import PSR, AvgPool, Baseline, fold_bn

CLASSES = ("neutral", "happiness", "anger")
EDSR = dict(n_resblocks=1, n_feats=4)


def tiny(size=24, seed=0, **kwargs): # a PSR with uneven weights, in eval mode
    torch.manual_seed(seed)
    m = PSR("vgg8_bn", n_classes=3, size=size, **dict(dict(pos=2, sr=EDSR), **kwargs))
    with torch.no_grad():
        for o in m.modules():
            if isinstance(o, (nn.BatchNorm1d, nn.BatchNorm2d)):
                o.running_mean.normal_(0, .2)
                o.running_var.uniform_(.5, 1.5)
                o.weight.uniform_(.5, 1.5)
                o.bias.normal_(0, .2)
        if m.fusion is not None: m.fusion.copy_(torch.linspace(-.1, .1, len(m.fusion)))
    return m.eval()


def batch(n=3, h=24, w=None, seed=0): return torch.randn(n, 3, h, w or h, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def squares(tmp_path_factory): # 30 small pictures of random pixels, ten of them for testing
    d, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    rows = [dict(path=f"{i}.png", split=("train","valid","test")[i % 3], label=CLASSES[i*i % 7 % 3]) for i in range(30)]
    for i,r in enumerate(rows): Image.fromarray(rng.integers(0, 255, (9 + i, 9 + i, 3), dtype=np.uint8)).save(d/r["path"])
    return finish_table(pd.DataFrame(rows), d, "squares", classes=CLASSES)


@pytest.fixture(scope="module")
def dls(squares): return dls_from_table(squares, size=24, bs=4, augment=None, device="cpu")


# smaller faces

@pytest.mark.parametrize("h,w,px", [(48, 48, 12), (40, 60, 20)])
def test_reducing_is_what_pillow_does(h, w, px):
    y, x = np.mgrid[:h,:w]
    im = np.stack([127 + 90*np.sin(x/5 + k)*np.cos(y/7) for k in range(3)], -1).round().astype(np.uint8)
    small = (w*px//min(h,w), h*px//min(h,w))
    want = np.asarray(Image.fromarray(im).resize(small, Image.Resampling.BICUBIC).resize((w,h), Image.Resampling.BICUBIC)).astype(float)
    mean, std = [torch.tensor(o).view(3,1,1) for o in IMAGENET_STATS]
    got = pixels(shrink_faces(((torch.from_numpy(im).permute(2,0,1)/255 - mean)/std)[None], px))[0].permute(1,2,0).numpy()*255
    assert np.abs(got - want).max() < 2  # Pillow rounds to whole numbers four times
    assert np.abs(got - im).max() > 5


def test_reducing_keeps_black_and_white_as_the_limits():
    stats = (.5,.4,.3), (.2,.3,.4)
    black_and_white = torch.eye(4).repeat(2, 3, 1, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)  # fields of 4 pixels
    x = (black_and_white - torch.tensor(stats[0]).view(3,1,1))/torch.tensor(stats[1]).view(3,1,1)
    y = shrink_faces(x, 11, stats)
    torch.testing.assert_close((y.amin((0,2,3)), y.amax((0,2,3))), (x.amin((0,2,3)), x.amax((0,2,3))))  # reached, not crossed
    flat = torch.full((1,3,16,16), .3)
    torch.testing.assert_close(shrink_faces(flat, 5), flat)
    assert shrink_faces(x, 16) is x and shrink_faces(x, 99) is x
    for bad in (0, -3, 2.5):
        with pytest.raises(ValueError, match="whole number, 1 or more"): shrink_faces(x, bad)


def test_scores_of_reduced_faces(dls):
    model = tiny()
    sized, y = reduced_size_scores(model, dls[2], (30, 24, 7))
    faces = torch.cat([x.as_subclass(torch.Tensor) for x,_ in dls[2]])
    with torch.no_grad(): want = model.branches(shrink_faces(faces, 7))
    torch.testing.assert_close(sized[7], want, atol=1e-5, rtol=1e-4)
    plain, targets = tta_scores(model, dls[2], views="none")
    torch.testing.assert_close(sized[24], plain)
    torch.testing.assert_close(sized[30], plain)
    assert (y == targets).all() and not torch.allclose(sized[7], plain, atol=1e-2)
    assert reduced_size_scores(Baseline("vgg8_bn", 3, 24), dls[2], (7,))[0][7].shape == (10,1,3)


def test_the_mode_of_each_part_is_left_as_it_was(dls):
    model = tiny().train()
    model.shared.eval()  # somebody froze its statistics
    before, state = [m.training for m in model.modules()], {k: v.clone() for k,v in model.state_dict().items()}
    reduced_size_scores(model, dls[2], (7,)); attention_map(model, batch()); stn_effect(model, batch())
    assert [m.training for m in model.modules()] == before and True in before and False in before
    assert all(torch.equal(v, state[k]) for k,v in model.state_dict().items())


def test_the_normalisation_of_the_batches_is_used(squares):
    other = dls_from_table(squares, size=24, bs=4, augment=None, device="cpu",
        normalize=Normalize.from_stats((.5,)*3, (.05,)*3, cuda=False))
    class Peak(nn.Module):  # brightest value of each face
        def forward(self, x): return x.amax((1,2,3))[:,None].expand(-1,3)
    sized, _ = reduced_size_scores(Peak(), other[2], (12,))
    assert sized[12].max() <= (1 - .5)/.05 + 1e-4 and sized[12].max() > (1 - .485)/.229


def test_accuracy_by_reduced_size(dls):
    psr, base = tiny(), Baseline("vgg8_bn", 3, 24)
    t = accuracy_by_reduced_size(dict(PSR=psr, baseline=base), dls[2], (24, 6))
    assert list(t) == ["PSR", "PSR: 1/2", "PSR: SR x2", "PSR: original", "baseline"] and t.index.tolist() == [24,6]
    sized, y = reduced_size_scores(psr, dls[2], (6,))
    with torch.no_grad(): want = judge(psr.fuse(sized[6]), y, CLASSES)["wa"]
    assert t["PSR"][6] == pytest.approx(want)
    assert t["PSR: SR x2"][6] == pytest.approx((sized[6][:,1].argmax(1) == y).double().mean().item())
    right = right_by_reduced_size(psr, dls[2], (24, 6))
    assert right[6]["fused"].dtype == bool and right[6]["fused"].tolist() == (psr.fuse(sized[6]).argmax(1) == y).tolist()
    pd.testing.assert_frame_equal(mean_by_reduced_size(dict(PSR=right)), t[[o for o in t if o != "baseline"]])
    ax, = plot_reduced_size(t).axes
    assert [o.get_label() for o in ax.lines] == list(t)
    np.testing.assert_allclose(ax.lines[4].get_ydata(), 100*t["baseline"])


# by original size

def test_cumulative_accuracy_by_a_loop():
    rng = np.random.default_rng(3)
    s, a, b = rng.integers(40, 260, 400)/2, rng.random(400) < .8, rng.random(400) < .6
    t = by_size(s, dict(PSR=a, baseline=b))
    upto = {size: np.flatnonzero(s <= size) for size in sorted(set(s)) if size < 100}
    want = [(size, len(i), a[i].sum()/len(i), b[i].sum()/len(i)) for size,i in upto.items() if len(i) > 20]
    np.testing.assert_allclose(t.reset_index(), np.array(want))
    mixed = rng.permutation(400)
    pd.testing.assert_frame_equal(by_size(s[mixed], dict(PSR=a[mixed], baseline=torch.from_numpy(b[mixed]))), t)
    whole = by_size(s, dict(PSR=a), limit=None, skip=0)
    assert whole["faces"].iloc[[0,-1]].tolist() == [(s == s.min()).sum(), 400] and whole["PSR"].iloc[-1] == a.mean()
    ax, = plot_cumulative(t, "Fig. 7").axes
    assert len(ax.lines) == 2 and ax.get_title(loc="left") == "Fig. 7"


def test_cumulative_accuracy_of_strange_input():
    with pytest.raises(ValueError, match="PSR has 3 judgements for 4 faces"): by_size([10]*4, dict(PSR=[True]*3))
    with pytest.raises(ValueError, match="4 of 4 faces are smaller than limit=100 pixels, and skip=20"): by_size([10]*4, dict(PSR=[True]*4))


def test_discrepancy_by_a_loop():
    s = np.array([20., 21, 25, 40])
    t = pd.DataFrame(dict(faces=1, PSR=[.5,.6,.7,.8], baseline=[.4,.6,.5,.75]), index=s)
    d = discrepancy(t, smooth=2)
    np.testing.assert_allclose(d["raw"], [.1, 0, .2, .05])
    for i in range(4):
        w = [np.exp(-(s[i] - o)**2/8) for o in s]
        assert d["smooth"].iloc[i] == pytest.approx(sum(a*b for a,b in zip(w, d["raw"], strict=True))/sum(w))
    np.testing.assert_allclose(discrepancy(t.assign(PSR=t["baseline"] + .25))["smooth"], .25)
    assert len(plot_discrepancy(d).axes[0].lines) == 3
    with pytest.raises(ValueError, match="no column 'VGG16'; there are faces, PSR, baseline"): discrepancy(t, b="VGG16")
    with pytest.raises(ValueError, match="smooth=0"): discrepancy(t, smooth=0)


# more than chance?

def test_bootstrap_against_scipy():
    rng = np.random.default_rng(0)
    a = rng.random(300) < .85
    b = np.where(rng.random(300) < .2, rng.random(300) < .3, a)
    got = bootstrap_difference(a, b, n=20_000)
    want = scipy.stats.bootstrap((a.astype(float), b.astype(float)), lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True, vectorized=True, n_resamples=4000, method="percentile",
        rng=np.random.default_rng(1))
    assert got["difference"] == pytest.approx(a.mean() - b.mean()) and got["faces"] == 300
    np.testing.assert_allclose([got["low"], got["high"]], want.confidence_interval, atol=1.1/300)  # a step of one face
    assert got["share_not_above_0"] == pytest.approx((want.bootstrap_distribution <= 1e-12).mean(), abs=.02)
    back = bootstrap_difference(b, a, n=20_000)
    np.testing.assert_allclose([back["difference"], back["low"], back["high"]], [-got["difference"], -got["high"], -got["low"]],
        atol=1.1/300)
    assert (back["only_a"], back["only_b"]) == (got["only_b"], got["only_a"]) and back["mcnemar_p"] == pytest.approx(got["mcnemar_p"])
    assert bootstrap_difference(a, b, n=500, seed=2) == bootstrap_difference(a, b, n=500, seed=2)


def test_mcnemar_by_hand():
    a, b = np.array([1]*9 + [0]*3 + [1]*40 + [0]*8, bool), np.array([0]*9 + [1]*3 + [1]*40 + [0]*8, bool)
    d = bootstrap_difference(a, b)
    assert (d["only_a"], d["only_b"]) == (9, 3) and d["mcnemar_p"] == pytest.approx(2*sum(comb(12, k) for k in range(4))/2**12)
    assert d["difference"] == pytest.approx(.1)
    same = bootstrap_difference(a, a)
    assert (same["difference"], same["low"], same["high"], same["mcnemar_p"], same["share_not_above_0"]) == (0, 0, 0, 1, 1)


def test_bootstrap_is_quick():
    rng, t = np.random.default_rng(0), time.process_time()
    y = rng.integers(0, 8, 3160)
    p = np.where(rng.random(3160) < .8, y, rng.integers(0, 8, 3160))
    bootstrap_difference(p == y, rng.random(3160) < .8)
    bootstrap_metric(y, p, "macro_f1")
    assert time.process_time() - t < 2


@pytest.mark.parametrize("a,b,words", [([True], [True,False], "correct_a has 1 faces and correct_b 2"),
    ([0,2], [0,1], "correct_a must be one True or False per face"),
                                       ([], [], "correct_a must be"), ([True], [[True]], "correct_b must be")])
def test_bootstrap_needs_one_answer_per_face(a, b, words):
    with pytest.raises(ValueError, match=words): bootstrap_difference(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("metric,sk", [("wa", skm.accuracy_score),
    ("ua", lambda t,p: skm.recall_score(t, p, labels=np.unique(t), average="macro", zero_division=0)),
                                       ("macro_f1", lambda t,p: skm.f1_score(t, p, average="macro", zero_division=0))])
def test_intervals_of_metrics_against_resampled_faces(metric, sk):
    rng = np.random.default_rng(5)
    y = np.array([0]*40 + [1]*25 + [4]*3)  # classes 2 and 3 never occur, 5 only as an answer
    p = np.where(rng.random(68) < .7, y, rng.choice([0,1,2,5], 68))
    got = bootstrap_metric(torch.from_numpy(y), torch.from_numpy(p), metric)
    assert got["value"] == pytest.approx(sk(y, p))
    draws = [sk(y[i], p[i]) for i in rng.integers(0, 68, (400,68))]  # class 4 is missing from some of them
    np.testing.assert_allclose([got["low"], got["high"]], np.quantile(draws, (.025,.975)), atol=.04)
    assert got["low"] < got["value"] < got["high"]


def test_intervals_refuse_other_metrics_and_shapes():
    with pytest.raises(ValueError, match="no metric 'auc'; choose wa, ua, macro_f1"): bootstrap_metric([0], [0], "auc")
    with pytest.raises(ValueError, match=r"targets have shape \(2,\) and predictions \(3,\)"): bootstrap_metric([0,1], [0,1,1])
    assert bootstrap_metric([1,1], [1,1], "ua") == dict(value=1, low=1, high=1)


# faces that one model wins

def won(squares, **kwargs):
    y = pd.Categorical(squares[squares["split"] == "test"]["label"], categories=CLASSES).codes.astype(int)
    a, b = np.eye(3)[y]*np.linspace(1, 4, 10)[:,None], np.eye(3)[y]
    a[4], b[[1,4,8]] = np.eye(3)[(y[4] + 1) % 3], np.eye(3)[(y[[1,4,8]] + 1) % 3]  # A errs on 4, B on 1, 4 and 8
    return y, a, gains(squares, a, torch.tensor(b), **kwargs)


def test_gains_by_hand(squares):
    y, a, g = won(squares)
    test = squares[squares["split"] == "test"]
    assert g.index.tolist() == test.index[[1,8]].tolist() and g["path"].tolist() == [f"{3*k + 2}.png" for k in (1,8)]
    assert g["PSR"].tolist() == g["label"].tolist() and g["baseline"].tolist() == [CLASSES[(y[k] + 1) % 3] for k in (1,8)]
    assert g["size"].tolist() == [14, 35]
    np.testing.assert_allclose(g["confidence"], [np.exp(a[k].max())/np.exp(a[k]).sum() for k in (1,8)])
    assert won(squares, by="confidence")[2].index.tolist() == test.index[[8,1]].tolist()
    with pytest.raises(ValueError, match=r"scores have shape \(9, 3\); test has 10 faces and 3 classes"): gains(squares, a[:9], a[:9])
    with pytest.raises(ValueError, match="by='name'"): won(squares, by="name")


def test_faces_are_drawn_as_they_are_stored(squares):
    g = won(squares)[2]
    axs = [ax for ax in plot_faces(squares, g).axes if ax.images]
    assert [ax.images[0].get_array().shape for ax in axs] == [(14,14,3), (35,35,3)]
    assert axs[0].get_title() == f"{g['label'].iloc[0]}, 14 px\nbaseline: {g['baseline'].iloc[0]}"
    boxed = replace(squares, df=squares.df.assign(left=1, top=2, right=7, bottom=9))
    assert set(("left","top","right","bottom")) <= set(won(boxed)[2])
    axs = plot_faces(boxed, [0,3,4], titles=list("abc"), cols=2).axes
    assert [ax.images[0].get_array().shape for ax in axs if ax.images] == [(7,6,3)]*3 and axs[2].get_title() == "c"
    with pytest.raises(ValueError, match="no face to draw"): plot_faces(squares, g.iloc[:0])


# branches

def test_branch_report():
    model, rng = tiny(kstep=2, sr=[EDSR, EDSR], size=40), np.random.default_rng(0)
    scores, y = torch.from_numpy(rng.normal(size=(50,4,3))).float(), rng.integers(0, 3, 50)
    r = branch_report(scores, y, CLASSES, model)
    assert r.index.tolist() == ["1/4", "SR x2", "SR x4", "original", "fused"]
    for i in range(4):
        p = scores[:,i].argmax(1).numpy()
        np.testing.assert_allclose(r.iloc[i,:3].astype(float),
            [skm.accuracy_score(y, p), skm.balanced_accuracy_score(y, p), skm.f1_score(y, p, average="macro")])
    w = r["weight"].to_numpy(float)
    prob = (scores.softmax(-1)*torch.tensor(w[:4]).float()[:,None]).sum(1)
    assert r["wa"]["fused"] == pytest.approx((prob.argmax(1).numpy() == y).mean()) and w[:4].sum() == pytest.approx(1) and w[0] < w[3]
    votes = torch.eye(3)[torch.from_numpy(y)]*.6 + .1
    pd.testing.assert_frame_equal(branch_report(scores, votes, CLASSES, model), r)
    one = branch_report(scores[:,:1], y, CLASSES, Baseline("vgg8_bn", 3, 24))
    assert one.index.tolist() == ["fused"] and one["wa"]["fused"] == r["wa"]["1/4"]
    assert list(branch_predictions(model, scores)) == ["fused", "1/4", "SR x2", "SR x4", "original"]


# where it looks

def linear_toy(): # a baseline whose Grad-CAM has a closed form
    torch.manual_seed(1)
    m = Baseline("vgg8_bn", n_classes=3, size=24)
    m.low, m.shared, m.pool, m.head = nn.Identity(), nn.Conv2d(3, 5, 4, 4), AvgPool(), nn.Linear(5, 3)
    return m


@pytest.mark.slow
def test_attention_of_a_linear_network_in_closed_form():
    m, x = linear_toy(), batch(4)
    f, w = m.shared(x).detach(), m.head.weight.detach()
    target = torch.tensor([0,2,1,1])
    # the constant 1/(hw)^2 falls out
    want = torch.stack([torch.relu(sum(w[c,k]*f[i,k] for k in range(5))) for i,c in enumerate(target)])[:,None]
    want = F.interpolate(want, (24,24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(attention_map(m, x, target), want/want.amax((2,3), keepdim=True))
    torch.testing.assert_close(attention_map(m, x), attention_map(m, x, m(x).argmax(1)))
    torch.testing.assert_close(attention_map(m, x, 2)[1], attention_map(m, x, target)[1])


def test_attention_against_finite_differences():
    model, x, c = tiny(stn=False).double(), batch(1).double(), 2
    got = attention_map(model, x, c)
    with torch.no_grad():
        for i,(low,im) in enumerate(zip(model.low, model.images(x), strict=True)):
            f = model.shared(low(im))
            z = lambda f: model.head(model.pool(f))[0,c]
            at = lambda k, f=f: torch.zeros_like(f).index_fill(1, torch.tensor([k]), 1e-6)
            alpha = torch.stack([(z(f + at(k)) - z(f - at(k)))/2e-6/f[0,0].numel() for k in range(f.shape[1])])
            want = F.interpolate(torch.relu((alpha[:,None,None]*f[0]).sum(0))[None,None], (24,24), mode="bilinear",
                align_corners=False)[0,0]
            assert want.max() > 0
            torch.testing.assert_close(got[0,i], want/want.max(), atol=1e-5, rtol=0)


def test_attention_leaves_nothing_behind():
    model, x = tiny(), batch(2)
    want = attention_map(model, x)
    assert want.shape == (2,3,24,24) and want.min() >= 0 and want.max() <= 1 and not want.requires_grad
    assert all(p.grad is None for p in model.parameters()) and not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    with torch.no_grad(): torch.testing.assert_close(attention_map(model, x), want)
    with torch.inference_mode(): torch.testing.assert_close(attention_map(model, x.clone()), want)
    torch.testing.assert_close(attention_map(fold_bn(model), x), want, atol=1e-4, rtol=0)  # no parameter wants a gradient
    torch.testing.assert_close(attention_map(model, x[1:]), want[1:], atol=1e-5, rtol=1e-4)
    model.head[-1].register_forward_hook(lambda *a: 1/0)
    with pytest.raises(ZeroDivisionError): attention_map(model, x)
    assert sum(len(m._forward_hooks) for m in model.modules()) == 1 and not model.training


def test_attention_lies_on_the_face_as_it_was_given():
    model = tiny(size=25)
    plain, x = tiny(size=25, stn=False), batch(2, 25)
    plain.load_state_dict({k: v for k,v in model.state_dict().items() if not k.startswith("stn.")})
    model.stn.fc_loc[2].bias.data = torch.tensor([1., 0, 4/12, 0, 1, -2/12])  # aligned(x,y) = given(x + 4, y - 2)
    with torch.no_grad(): aligned = model.stn(x)
    torch.testing.assert_close(aligned[:,:,2:,:-4], x[:,:,:-2,4:], atol=1e-4, rtol=0)
    want, got = attention_map(plain, aligned, 1), attention_map(model, x, 1)
    seen = want[:,:,2:,:-4]  # the rest of the aligned face is not on the given one
    torch.testing.assert_close(got[:,:,:-2,4:], seen/seen.amax((2,3), keepdim=True).clamp(min=1e-30), atol=1e-4, rtol=0)
    assert got[:,:,:,:3].max() == 0 and got[:,:,-1:].max() == 0  # what the network did not see


@pytest.mark.parametrize("arch,pos,cells", [("vgg11_bn", 4, 2), ("vgg11_bn", 8, 2), ("vgg8_bn", 7, 4), ("vgg8_bn", 0, 4)])
def test_the_map_is_the_one_before_pooling(arch, pos, cells):
    base = Baseline(arch, n_classes=3, size=32, pos=pos).eval()
    layer, seen = _map_layer(base.low, base.shared), []
    if layer is None: seen.append(base.shared(base.low(batch(1, 32))))
    else:
        with layer.register_forward_hook(lambda m, a, y: seen.append(y)): base(batch(1, 32))
    assert seen[-1].shape[-2:] == (cells,cells)  # VGG's last pooling would halve it, then repeat it 7 times 7
    assert attention_map(base, batch(2, 32), 0).shape == (2,1,32,32)


def test_attention_refuses_what_it_cannot_use():
    model = tiny()
    with pytest.raises(ValueError, match=r"give a batch \(B,3,H,W\)"): attention_map(model, batch()[0])
    for bad in (3, -1):
        with pytest.raises(ValueError, match="numbers 0 to 2"): attention_map(model, batch(), bad)


def test_pictures_of_maps():
    maps = torch.rand(2,3,24,24)
    fig = plot_attention(pixels(batch(2)), maps, ["a","b","c"], ["first","second"])
    assert len(fig.axes) == 8 and [ax.get_title() for ax in fig.axes[:4]] == ["first","a","b","c"]
    np.testing.assert_allclose(fig.axes[6].images[-1].get_array(), maps[1,1])


# what the STN did

def test_stn_effect_moves_a_spot_as_it_says():
    h, w = 48, 64
    model = tiny(size=(h,w))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    centres = ((31.5,23.5), (38.5,23.5), (31.5,30.5))
    spots = torch.stack([torch.exp(-((x - cx)**2 + (y - cy)**2)/8.) for cx,cy in centres])[:,None].repeat(1,3,1,1)
    model.stn.fc_loc[2].bias.data = torch.tensor([.8, .15, .12, -.2, .9, -.1])
    before, after, e = stn_effect(model, spots)
    assert torch.equal(before, spots) and len(e) == 3 and e.nunique().max() == 1  # the weights are zero, so all faces are moved alike
    mass = after[:,0]/after[:,0].sum((1,2), keepdim=True)
    centre, right, down = [np.array([float((m*x).sum()), float((m*y).sum())]) for m in mass]
    np.testing.assert_allclose(centre - [31.5,23.5], e[["right","down"]].iloc[0], atol=.05)
    m = np.stack([(right - centre)/7, (down - centre)/7], 1)  # the 2 x 2 part, measured
    u, s, vt = np.linalg.svd(m)
    r = u@vt
    np.testing.assert_allclose(e[["rotation","zoom","stretch"]].iloc[0],
        [np.rad2deg(np.arctan2(r[1,0], r[0,0])), np.sqrt(np.linalg.det(m)), s[0]/s[1]], rtol=.02)


def test_stn_effect_at_the_ends():
    model = tiny()
    np.testing.assert_allclose(stn_effect(model, batch())[2], [[0,1,1,0,0]]*3, atol=1e-5)
    model.stn.fc_loc[2].bias.data = torch.tensor([-1., 0, 0, 0, 1, 0])
    before, after, e = stn_effect(model, batch(2))
    torch.testing.assert_close(after, before.flip(3), atol=1e-4, rtol=0)
    assert e["rotation"].isna().all() and e["zoom"].iloc[0] == pytest.approx(1, abs=1e-5)
    assert len(plot_stn(pixels(before), pixels(after), e).axes) == 4
    with pytest.raises(ValueError, match="no STN"): stn_effect(tiny(stn=False), batch())


def test_occlusion_maps_lowest_of_all_places():
    from psr_fer.interpret import occlusion_maps
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3*32*32, 4)), torch.randn(1, 3, 32, 32)
    def predict(o): # two maps: at two temperatures
        with torch.no_grad(): return torch.stack([model(o).softmax(1), (model(o)/2).softmax(1)], 1).double().numpy()
    maps, lowest = occlusion_maps(predict, x, 2)
    assert maps.shape == (2, 32, 32) and 0 <= maps.min() and maps.max() <= 1
    covered = x.clone()
    covered[:, :, :4, :4] = x.mean((2, 3), keepdim=True) # the first of the places, of 8 pixels, around the corner
    assert (lowest <= predict(covered)[0, :, 2] + 1e-6).all()
