"""Eqs. 2-4: hand-computed values, gradients, PyTorch's own losses, half precision, fastai."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from psr_fer.emotions import EMOTIONS, prior
from psr_fer.losses import CELoss, LSLoss, PDLSLoss

D3 = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])


def losses(reduction="mean", weight=None):
    return [CELoss(weight, reduction), LSLoss(0.8, weight, reduction), PDLSLoss(D3, 0.8, weight, reduction)]


def slow(kind, z, t, alpha=0.8):
    "One image, one branch, in plain Python: Eqs. 2-4 term by term. `t` is a distribution."
    top = sum(math.exp(o) for o in z)
    logp = [math.log(math.exp(o)/top) for o in z]
    q = {"CELoss": lambda c: t[c], "LSLoss": lambda c: alpha*t[c] + (1 - alpha)/len(z),
         "PDLSLoss": lambda c: alpha*t[c] + (1 - alpha)*sum(t[k]*D3[k, c].item() for k in range(len(z)))}[kind]
    return -sum(q(c)*logp[c] for c in range(len(z)))


@pytest.mark.parametrize("i", range(3))
def test_term_by_term(i):
    "Hard and soft labels, one network and branches."
    z = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 2, 1, 1])
    soft = torch.tensor([[0.5, 0.5, 0.], [0.1, 0.2, 0.7], [0., 1., 0.], [1/3, 1/3, 1/3]])
    f = losses("none")[i]
    kind = type(f).__name__
    for labels, t in ((y, F.one_hot(y, 3).float()), (soft, soft)):
        want = torch.tensor([[slow(kind, z[n, b].tolist(), t[n].tolist()) for b in range(2)] for n in range(4)])
        assert_close(f(z, labels), want.mean(1))
        assert_close(f(z[:, 0], labels), want[:, 0])
        assert_close(losses("mean")[i](z, labels), want.mean())
        assert_close(losses("sum")[i](z, labels), want.mean(1).sum())


def test_hand_values():
    "z = (log 2, 0, 0): probabilities 1/2, 1/4, 1/4."
    z, y = torch.tensor([[math.log(2), 0., 0.]]), torch.tensor([0])
    assert_close(CELoss()(z, y).item(), math.log(2))
    assert_close(LSLoss(0.7)(z, y).item(), 0.8*math.log(2) + 0.2*math.log(4), rtol=1e-6, atol=0)
    assert_close(PDLSLoss(D3, 0.5)(z, y).item(), 0.8*math.log(2) + 0.2*math.log(4), rtol=1e-6, atol=0)  # .5 + .5*.6 and .15 + .05


@pytest.mark.parametrize("i", range(3))
def test_gradient_in_double(i):
    z = torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for y in (torch.tensor([2, 0, 1]), torch.tensor([[0.2, 0.3, 0.5]]*3, dtype=torch.float64)):
        assert torch.autograd.gradcheck(lambda o, y=y: losses(weight=[1., 2., .5])[i](o, y), (z,))
    y = torch.tensor([2, 0, 1])
    g64, = torch.autograd.grad(losses()[i](z, y), z)
    z32 = z.detach().float().requires_grad_()
    g32, = torch.autograd.grad(losses()[i](z32, y), z32)
    assert_close(g32, g64.float())


def test_alpha_one_is_cross_entropy():
    z, y = torch.randn(5, 8), torch.tensor([0, 1, 2, 3, 7])
    d = torch.from_numpy(prior(EMOTIONS))
    for f in (LSLoss(1.), PDLSLoss(d, 1.)): assert_close(f(z, y), F.cross_entropy(z, y))
    assert_close(PDLSLoss(torch.full((8, 8), 1/8), 0.9)(z, y), LSLoss(0.9)(z, y))  # a uniform prior is label smoothing


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_like_pytorch(reduction):
    "Weights, reduction and smoothing as in `F.cross_entropy`, for class numbers and distributions."
    z, y, w = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0]), torch.tensor([1., 2., 0.5, 3.])
    for labels in (y, torch.rand(6, 4).softmax(1)):
        for weight in (None, w):
            assert_close(CELoss(weight, reduction)(z, labels), F.cross_entropy(z, labels, weight, reduction=reduction))
            assert_close(LSLoss(0.8, weight, reduction)(z, labels),
                F.cross_entropy(z, labels, weight, reduction=reduction, label_smoothing=0.2))


def test_branches_are_averaged():
    z, y = torch.randn(3, 4, 8), torch.tensor([1, 5, 0])
    for f in (CELoss(), LSLoss(), PDLSLoss(prior(EMOTIONS))):
        assert_close(f(z, y), torch.stack([f(z[:, b], y) for b in range(4)]).mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    "Scores that overflow or underflow a half-precision softmax."
    z = torch.tensor([[60000., 0., -60000.], [20., -20., 0.]], dtype=dtype, requires_grad=True)
    y = torch.tensor([0, 1])
    for f in losses():
        out = f(z, y)
        assert out.dtype == torch.float32 and out.isfinite()
        assert_close(out, f(z.double(), y).float())
        assert torch.autograd.grad(out, z)[0].isfinite().all()


def test_log_probabilities_may_be_fed():
    z, y = torch.randn(5, 8), torch.tensor([0, 1, 2, 3, 7])
    for f in (CELoss(), LSLoss(), PDLSLoss(prior(EMOTIONS))): assert_close(f(z.log_softmax(1), y), f(z, y))


def test_bad_priors_are_named():
    d = prior(EMOTIONS)
    cases = {r"\(7, 8\)": d[:7], r"\(8,\)": d[0]}
    for row, name in ((1, "happiness"), (7, "contempt")):
        for what in ("sum", "diagonal", "negative"):
            o = np.array(d)
            if what == "sum": o[row] *= 0.9
            if what == "diagonal": o[row, [0, row]] = o[row, [row, 0]]
            if what == "negative": o[row, row] += 2*o[row, 2]; o[row, 2] *= -1
            if what == "diagonal" and row == 0: continue
            with pytest.raises(ValueError, match=f"Row '{name}'"): PDLSLoss(o)
    for text, o in cases.items():
        with pytest.raises(ValueError, match=text): PDLSLoss(o)
    with pytest.raises(ValueError, match="Row 'b'"): PDLSLoss([[1., 0.], [0.6, 0.4]], names=["a", "b"])
    with pytest.raises(ValueError, match="Row 1 "): PDLSLoss([[1., 0.], [0.6, 0.4]])


def test_bad_arguments():
    with pytest.raises(ValueError, match="alpha=-0.1"): LSLoss(-0.1)
    with pytest.raises(ValueError, match="alpha=2"): PDLSLoss(D3, 2)
    with pytest.raises(ValueError, match="reduction='avg'"): CELoss(reduction="avg")


def test_device_and_state():
    "Weights and prior travel with the loss, and no copy of them is needed for another dtype."
    f = PDLSLoss(D3, 0.8, weight=[1., 1., 2.])
    assert set(f.state_dict()) == {"prior", "weight"}
    assert f(torch.randn(2, 3, dtype=torch.float64), torch.tensor([0, 1])).dtype == torch.float64


def test_with_fastai():
    "A Learner trains with branch scores, and get_preds returns probabilities and decoded classes."
    import fastai.callback.progress  # noqa: F401 - no_bar
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.f = torch.nn.Linear(4, 6)
        def forward(self, x): z = self.f(x).view(-1, 2, 3); return z if self.training else z.mean(1)

    x = torch.randn(32, 4); y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    ds = list(zip(x, y, strict=True))
    dls = DataLoaders.from_dsets(ds, ds, bs=8, device="cpu", num_workers=0)
    learn = Learner(dls, Net(), loss_func=PDLSLoss(D3, 0.9), metrics=[])
    with learn.no_bar(), learn.no_logging():
        before = learn.validate()[0]
        learn.fit(5, 0.05)
        p, t, dec = learn.get_preds(with_decoded=True)
    assert learn.validate()[0] < before and p.shape == (32, 3)
    assert_close(p.sum(1), torch.ones(32)); assert_close(dec, p.argmax(1))
