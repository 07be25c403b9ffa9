"""The published network in plain functions, straight from a state dict: an independent reference for the parity tests.

`fill` makes the weights of the golden case from their names, `names` lists names and shapes for any case, `forward` computes the
network branch by branch. `test_parity.py` first holds `forward` against the golden numbers, then our modules against `forward`.
"""
import zlib

import numpy as np
import torch
import torch.nn.functional as F

VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
CUTS = [3, 6, 10, 14, 17, 20, 24, 27, 30, 34, 37]


def fill(shapes, seed):
    "One float32 tensor per name, drawn from a generator that the name seeds."
    out = {}
    for name, shape in shapes.items():
        last = name.rsplit(".", 1)[1]
        if last == "num_batches_tracked":
            out[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        z = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()) % 2**31).standard_normal(tuple(shape)).astype(np.float32)
        if last == "running_var": a = 1 + 0.1*np.abs(z)
        elif last == "running_mean": a = 0.1*z
        elif last == "bias": a = 0.05*z
        elif z.ndim == 1: a = 1 + 0.1*z
        else: a = z*np.float32(np.sqrt(2.0/np.prod(z.shape[1:])))
        if ".fc_loc.2." in f".{name}": a = 0.02*z + (np.array([1, 0, 0, 0, 1, 0], np.float32) if last == "bias" else 0)
        if name.startswith("pyramid_group") and ".body." in name and last == "weight": a = a*0.1
        out[name] = torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32))
    return out


def _bn(prefix, n):
    return {f"{prefix}.{k}": [n] for k in ("weight", "bias", "running_mean", "running_var")} | {f"{prefix}.num_batches_tracked": []}


def vgg_layers():
    "(place, kind, n_in, n_out) of VGG16-BN."
    out, n_in, i = [], 3, 0
    for v in VGG16:
        if v == "M": out.append((i, "pool", n_in, n_in)); i += 1; continue
        out += [(i, "conv", n_in, v), (i+1, "bn", v, v), (i+2, "relu", v, v)]; i += 3; n_in = v
    return out


def _vgg_names(prefix, first, stop):
    out = {}
    for i, kind, n_in, n_out in vgg_layers():
        if not first <= i < stop: continue
        if kind == "conv": out |= {f"{prefix}{i-first}.weight": [n_out, n_in, 3, 3], f"{prefix}{i-first}.bias": [n_out]}
        if kind == "bn": out |= _bn(f"{prefix}{i-first}", n_out)
    return out


def _head_names(prefix, n_classes):
    return (_bn(f"{prefix}2", 1024) | {f"{prefix}4.weight": [512, 1024], f"{prefix}4.bias": [512]} | _bn(f"{prefix}6", 512)
            | {f"{prefix}8.weight": [n_classes, 512], f"{prefix}8.bias": [n_classes]})


def _edsr_names(prefix, scale, n_resblocks, n_feats):
    conv = lambda k, a, b: {f"{prefix}{k}.weight": [b, a, 3, 3], f"{prefix}{k}.bias": [b]}
    out = conv("head.0", 3, n_feats)
    for i in range(n_resblocks): out |= conv(f"body.{i}.body.0", n_feats, n_feats) | conv(f"body.{i}.body.2", n_feats, n_feats)
    out |= conv(f"body.{n_resblocks}", n_feats, n_feats)
    for j in range(2 if scale == 4 else 1): out |= conv(f"tail.0.{2*j}", n_feats, 4*n_feats)
    return out | conv("tail.1", n_feats, 3)


def names(size, n_classes, multiples, cut, n_resblocks=16, n_feats=64):
    "Names and shapes of the published pyramid's state dict."
    side = ((size - 6)//2 - 4)//2
    out = {"stn.localization.0.weight": [8, 3, 7, 7], "stn.localization.0.bias": [8], "stn.localization.3.weight": [10, 8, 5, 5],
           "stn.localization.3.bias": [10], "stn.fc_loc.0.weight": [32, 10*side*side], "stn.fc_loc.0.bias": [32],
           "stn.fc_loc.2.weight": [6, 32], "stn.fc_loc.2.bias": [6]}
    out |= _vgg_names("classifier.0.", cut, 44) | _head_names("classifier.1.0.", n_classes)
    for b, scale in enumerate(multiples):
        if scale == 1: out |= _vgg_names(f"pyramid_group.{b}.", 0, cut)
        else: out |= _edsr_names(f"pyramid_group.{b}.0.", scale, n_resblocks, n_feats) | _vgg_names(f"pyramid_group.{b}.1.", 0, cut)
    return out


def plain_names(n_classes, body="0.0.", head="1."):
    "Names and shapes of the published plain VGG16-BN."
    return _vgg_names(body, 0, 44) | _head_names(head, n_classes)


def _under(sd, prefix): return {k[len(prefix):]: v for k, v in sd.items() if k.startswith(prefix)}


def _conv(x, sd, k, **kw): return F.conv2d(x, sd[f"{k}.weight"], sd[f"{k}.bias"], **kw)


def _norm(x, sd, k): return F.batch_norm(x, sd[f"{k}.running_mean"], sd[f"{k}.running_var"], sd[f"{k}.weight"], sd[f"{k}.bias"])


def vgg(x, sd, first, stop):
    for i, kind, _, _ in vgg_layers():
        if not first <= i < stop: continue
        k = str(i - first)
        if kind == "conv": x = _conv(x, sd, k, padding=1)
        elif kind == "bn": x = _norm(x, sd, k)
        else: x = {"relu": F.relu, "pool": lambda o: F.max_pool2d(o, 2)}[kind](x)
    return x


def edsr(x, sd):
    n = max(int(k.split(".")[1]) for k in sd if k.startswith("body."))
    h = r = _conv(x, sd, "head.0", padding=1)
    for i in range(n): r = r + _conv(F.relu(_conv(r, sd, f"body.{i}.body.0", padding=1)), sd, f"body.{i}.body.2", padding=1)
    h = h + _conv(r, sd, f"body.{n}", padding=1)
    for k in sorted(o.removesuffix(".weight") for o in sd if o.startswith("tail.0.") and o.endswith("weight")):
        h = F.pixel_shuffle(_conv(h, sd, k, padding=1), 2)
    return _conv(h, sd, "tail.1", padding=1)


def stn(x, sd):
    f = F.relu(F.max_pool2d(_conv(x, sd, "localization.0"), 2))
    f = F.relu(F.max_pool2d(_conv(f, sd, "localization.3"), 2)).flatten(1)
    f = F.linear(F.relu(F.linear(f, sd["fc_loc.0.weight"], sd["fc_loc.0.bias"])), sd["fc_loc.2.weight"], sd["fc_loc.2.bias"])
    return F.grid_sample(x, F.affine_grid(f.view(-1, 2, 3), x.shape, align_corners=True), align_corners=True)


def head(m, sd):
    m = F.adaptive_avg_pool2d(m, 7)
    v = torch.cat([F.adaptive_max_pool2d(m, 1), F.adaptive_avg_pool2d(m, 1)], 1).flatten(1)
    v = F.relu(F.linear(_norm(v, sd, "2"), sd["4.weight"], sd["4.bias"]))
    return F.linear(_norm(v, sd, "6"), sd["8.weight"], sd["8.bias"])


@torch.no_grad()
def forward(sd, x, multiples, cut):
    "What the published network returns in eval mode: stn (B,3,S,S), sr (the branch images), branches (B,C,n), fused (B,C) probabilities."
    image = stn(x, _under(sd, "stn."))
    low = F.adaptive_avg_pool2d(image, x.shape[-1]//2**(len(multiples) - 2))
    scores, sr = [], []
    for b, scale in enumerate(multiples):
        mine = _under(sd, f"pyramid_group.{b}.")
        if scale == 1: f = vgg(low if b == 0 else image, mine, 0, cut)
        else: sr.append(edsr(low, _under(mine, "0."))); f = vgg(sr[-1], _under(mine, "1."), 0, cut)
        scores.append(head(vgg(f, _under(sd, "classifier.0."), cut, 44), _under(sd, "classifier.1.0.")))
    scores = torch.stack(scores, 2)
    return dict(stn=image, sr=sr, branches=scores, fused=scores.softmax(1).mean(2))


def inputs(seed, batch, size):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((batch, 3, size, size)).astype(np.float32))
