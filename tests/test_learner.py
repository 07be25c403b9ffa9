"""Metrics against scikit-learn; the learners with fastai's own tools; test-time views."""
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics as skm
import torch
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner

from psr_fer.data.ferplus import ferplus_dls
from psr_fer.emotions import EMOTIONS
from psr_fer.learner import EMA, baseline_learner, fuse_scores, make_loss, psr_learner, tta_scores
from psr_fer.metrics import judge, wa

SMALL = dict(sr=dict(n_resblocks=1, n_feats=4))


@pytest.fixture(scope="module")
def dls(faces): return ferplus_dls(faces, size=32, bs=16, labels="label.csv", augment="light", seed=0)


@pytest.fixture(scope="module")
def learn(dls):
    torch.manual_seed(0)
    learn = psr_learner(dls, "vgg8_bn", pos=2, model_args=SMALL)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 2e-3)
    return learn


def test_judge_equals_sklearn():
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 7, 500), rng.random((500, 8))  # class 7 never occurs
    r, p = judge(s, y, EMOTIONS), s.argmax(1)
    assert r["wa"] == pytest.approx(skm.accuracy_score(y, p)) and r["macro_f1"] == pytest.approx(skm.f1_score(y, p, average="macro"))
    assert r["ua"] == pytest.approx(skm.recall_score(y, p, labels=range(7), average="macro"))
    assert r["confusion"] == skm.confusion_matrix(y, p, labels=range(8)).tolist() and r["recall"]["contempt"] is None


def test_a_learner_that_was_never_trained_can_be_judged(dls):
    fresh = psr_learner(dls, "vgg8_bn", pos=2, model_args=SMALL)
    with fresh.no_bar(), fresh.no_logging():
        assert len(fresh.validate()) == 4
        preds, y = fresh.get_preds(ds_idx=2)
    assert preds.shape == (len(dls[2].dataset), len(dls.vocab)) and fresh.opt is None


@pytest.mark.slow
def test_metrics_of_an_epoch_are_over_all_faces(learn, dls):
    loss, wa, ua, f1 = learn.validate()
    preds, y = learn.get_preds(dl=dls.valid)
    p = preds.argmax(1)
    assert wa == pytest.approx(skm.accuracy_score(y, p)) and f1 == pytest.approx(skm.f1_score(y, p, average="macro", zero_division=0))
    assert ua == pytest.approx(skm.recall_score(y, p, labels=np.unique(y), average="macro", zero_division=0))
    torch.testing.assert_close(preds.sum(1), torch.ones(len(preds)), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_fastai_tools_work(learn, dls, faces, tmp_path):
    assert isinstance(learn, Learner)
    name, i, probs = learn.predict(next((faces/"FER2013Test").glob("*.png")))
    assert name == EMOTIONS[int(i)] and probs.shape == (8,) and float(probs.sum()) == pytest.approx(1, abs=1e-4)
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().sum() == len(dls.valid_ds)
    with learn.no_bar():
        preds, y = learn.tta(n=2)
        lr = learn.lr_find(num_it=12, show_plot=False)
    assert preds.shape == (len(dls.valid_ds), 8) and lr.valley > 0
    learn.show_results(max_n=2)
    dls.show_batch(max_n=2)


@pytest.mark.slow
def test_results_and_metrics_of_a_split_with_votes(learn, dls):
    import matplotlib.pyplot as plt
    y = dls.train.one_batch()[1]
    assert y.ndim == 2 # votes
    for i in (0, 1):
        plt.close("all")
        learn.show_results(ds_idx=i, max_n=4)
        assert len(plt.get_fignums()) == 1 and sum(bool(ax.images) for ax in plt.gcf().axes) == 4 # one figure with all faces
        titles = [ax.get_title().splitlines() for ax in plt.gcf().axes]
        assert all(len(o) == 2 and o[0].split()[0] in EMOTIONS and o[1] in EMOTIONS for o in titles)
    plt.close("all")
    with learn.no_bar():
        assert 0 <= learn.validate(0)[1] <= 1
        preds, y = learn.get_preds(0)
    wa.reset()
    wa.accumulate(SimpleNamespace(pred=preds, y=y, to_detach=learn.to_detach))
    assert wa.value == pytest.approx(skm.accuracy_score(y.argmax(1), preds.argmax(1)))


def test_validation_loss_of_the_pyramid_is_the_fused_likelihood(learn, dls):
    model = learn.model.eval()
    x, y = dls.valid.one_batch()
    with torch.no_grad(): out = model(x)
    got = make_loss("ce", EMOTIONS)(out, y)
    torch.testing.assert_close(got, -out[torch.arange(len(y)), y].mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_fit_fusion_makes_validation_faces_more_likely(dls):
    torch.manual_seed(0)
    learn = psr_learner(dls, "vgg8_bn", pos=2, model_args=SMALL)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    assert list(learn.model.fusion_weights().values()) == pytest.approx([1/3]*3) # training does not move them
    def nll(): # of the labels of the validation faces
        p, y = learn.psr_tta(ds_idx=1, views="none")
        return -p.gather(1, y[:, None].long()).log().mean().item()
    before, weights = nll(), learn.fit_fusion()
    assert nll() <= before + 1e-6 and sum(weights.values()) == pytest.approx(1)


def test_baseline_and_losses(dls):
    for loss in ("ce", "ls", "pdls"):
        learn = baseline_learner(dls, "vgg8_bn", loss=loss)
        x, y = dls.train.one_batch()
        value = learn.loss_func(learn.model(x), y)
        assert torch.isfinite(value) and float(value) > 0
    with pytest.raises(ValueError, match="no loss 'focal'"): baseline_learner(dls, "vgg8_bn", loss="focal")
    with pytest.raises(ValueError, match="PDLS needs a prior for the classes"): make_loss("pdls", ["cat", "dog"])


def test_tta_views(learn, dls):
    one, y = tta_scores(learn.model, dls.valid, views="none")
    whole, parts = [tta_scores(learn.model, dls.valid.new(bs=bs), 2)[0] for bs in (64, 7)]
    torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-4)  # the views of a face do not depend on its batch
    flip, _ = tta_scores(learn.model, dls.valid, views="flip")
    a, _ = tta_scores(learn.model, dls.valid, 3, seed=1)
    b, _ = tta_scores(learn.model, dls.valid, 3, seed=1)
    c, _ = tta_scores(learn.model, dls.valid, 3, seed=2)
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, c) and not torch.allclose(one, flip) and one.shape == (len(y), 3, 8)
    learn.model.eval()
    with torch.no_grad(): plain = torch.cat([learn.model(x) for x, _ in dls.valid])
    torch.testing.assert_close(fuse_scores(learn.model, one), plain.as_subclass(torch.Tensor), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="tta must be"): tta_scores(learn.model, dls.valid, tta="crops")
    with pytest.raises(ValueError, match="must be at least 1, got 0"): tta_scores(learn.model, dls.valid, 0)


def test_ema_is_the_average_of_the_steps(dls):
    torch.manual_seed(0)
    seen = []
    learn = baseline_learner(dls, "vgg8_bn", cbs=EMA(.5))
    first = {k: v.detach().clone() for k, v in learn.model.state_dict().items()}
    from fastai.callback.core import Callback

    class Watch(Callback):
        order = 100
        def after_batch(self):
            if self.training: seen.append({k: v.detach().clone() for k, v in self.model.state_dict().items()})
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3, cbs=Watch())
    want = first["head.2.weight"]
    for i, s in enumerate(seen, 1):
        d = min(.5, (1 + i)/(10 + i))
        want = d*want + (1 - d)*s["head.2.weight"]
    torch.testing.assert_close(learn.model.state_dict()["head.2.weight"], want, atol=1e-5, rtol=1e-4)


def test_scores_on_another_device_than_the_model_are_fused_there():
    "Scores come back to the CPU, the model may be on a GPU; a meta device stands for it here."
    from psr_fer.models.psr import PSR
    m = PSR("vgg8_bn", size=48, pos=2, sr=dict(n_resblocks=1, n_feats=4)).to("meta")
    scores = torch.randn(4, 3, 8)
    with pytest.raises(RuntimeError): m.fuse(scores)  # what went wrong
    # fused there; only a meta tensor has no values to bring back
    with pytest.raises(NotImplementedError, match="meta"): fuse_scores(m, scores)
