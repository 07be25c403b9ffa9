"""What fastai users do with a Learner, on both learners and both kinds of labels; one row per capability.

CONTRACT=FILE writes the table of results there as Markdown.
"""
import os

import numpy as np
import pytest
import torch
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.mixup import CutMix, MixUp
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.training import GradientAccumulation, ShortEpochCallback
from fastai.data.core import DataLoaders
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from fastai.losses import CrossEntropyLossFlat, FocalLossFlat, LabelSmoothingCrossEntropyFlat
from fastai.vision.learner import vision_learner
from PIL import Image
from torch import nn

from psr_fer.callbacks import Autocast
from psr_fer.data.ferplus import ferplus_dls
from psr_fer.emotions import EMOTIONS
from psr_fer.learner import EMA, baseline_learner, psr_learner

pytestmark = pytest.mark.slow

RESULTS = {} # row -> {column: passed}


@pytest.fixture(scope="module")
def loaders(faces):
    made = {(soft, size): ferplus_dls(faces, size=size, bs=16, soft=soft, labels="label.csv", augment="light", seed=0) for soft in (False, True) for size in (32, 48)}
    return lambda soft, size=32: DataLoaders(*[o.new() for o in made[soft, size].loaders], path=made[soft, size].path, device="cpu")


class Case:
    "One learner on one kind of labels."
    def __init__(self, kind, soft, loaders, tmp_path): self.kind, self.soft, self.loaders, self.tmp = kind, soft, loaders, tmp_path
    def learner(self, **kwargs):
        torch.manual_seed(0)
        dls, blocks = kwargs.pop("dls", None) or self.loaders(self.soft), dict(sr=dict(n_resblocks=1, n_feats=4)) if self.kind == "psr" else {}
        make = psr_learner if self.kind == "psr" else baseline_learner
        return make(dls, "vgg8_bn", model_args=dict(pos=3, **blocks) if self.kind == "baseline" else blocks, path=self.tmp, **kwargs)
    def fitted(self, **kwargs):
        learn = self.learner(**kwargs)
        quietly(learn, lambda: learn.fit_one_cycle(1, 1e-3))
        return learn


def quietly(learn, f):
    with learn.no_bar(), learn.no_logging(): return f()


def rates(learn): return {k: h["lr"] for k, h in zip(learn.discriminative_rates.names, learn.opt.hypers, strict=True)}


def learns(learn): return all(np.isfinite(learn.recorder.values[-1])) and len(learn.recorder.losses) > 0


def loss_of(loss):
    def row(o):
        learn = o.fitted(loss=loss())
        assert learns(learn)
        p, y = quietly(learn, lambda: learn.get_preds(ds_idx=1))
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)), atol=1e-4, rtol=0)
    return row


def fit(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit(1))
    assert learns(learn) and rates(learn)["head"] == 1e-3
    if o.kind == "psr": assert rates(learn)["stn"] == 1e-4


def fit_one_number(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit_one_cycle(1, 2e-3))
    top = learn.discriminative_rates.table().max()
    assert top["head"] == pytest.approx(2e-3, rel=.05) # 7 batches do not meet the top exactly
    if o.kind == "psr": np.testing.assert_allclose(learn.discriminative_rates.table()["stn"]*10, learn.discriminative_rates.table()["head"])


def fit_default_rates(o):
    one, other = o.learner(), o.learner(rates=False, lr=[dict(stn=1e-4, sr=1e-4).get(k, 1e-3) for k in (("stn", "sr") if o.kind == "psr" else ()) + ("low", "shared", "head")])
    for learn in (one, other): quietly(learn, lambda learn=learn: learn.fit_one_cycle(1))
    assert [h["lr"] for h in one.opt.hypers] == [h["lr"] for h in other.opt.hypers] # fastai's own list does the same


def fit_slice(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit_one_cycle(1, slice(1e-5, 1e-3)))
    n, top = len(learn.opt.hypers), learn.discriminative_rates.table().max()
    np.testing.assert_allclose(top/top["head"], np.geomspace(.01, 1, n), rtol=1e-3)
    assert top["head"] == pytest.approx(1e-3, rel=.05)


def fine_tune(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fine_tune(1, 1e-3))
    n, top = len(learn.opt.hypers), learn.discriminative_rates.table().max()
    np.testing.assert_allclose(top/top["head"], np.geomspace(.01, 1, n), rtol=1e-3) # fastai's lr_mult of 100
    assert top["head"] == pytest.approx(5e-4, rel=.05) # and its half of base_lr


def lr_find(o):
    learn = o.learner()
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    found = quietly(learn, lambda: learn.lr_find(num_it=8, show_plot=False))
    assert isinstance(found, tuple) and 0 < found.valley < 10
    assert learn.recorder.lrs == [h[-1] for h in learn.discriminative_rates.history][:len(learn.recorder.lrs)] # it names the head's rate
    for k, v in learn.model.state_dict().items(): torch.testing.assert_close(v, before[k])


def freeze(o):
    learn = o.learner()
    learn.create_opt(); learn.freeze()
    first, head = next(iter(learn.model.low.parameters())), next(learn.model.head.parameters())
    assert not first.requires_grad and head.requires_grad
    learn.unfreeze()
    assert first.requires_grad
    learn.freeze_blocks("low")
    assert not first.requires_grad and head.requires_grad


def with_callback(make):
    def row(o):
        learn = o.learner()
        quietly(learn, lambda: learn.fit_one_cycle(1, 1e-3, cbs=make()))
        assert learns(learn)
    return row


def ema(o):
    learn = o.learner(cbs=EMA(.9))
    quietly(learn, lambda: learn.lr_find(num_it=5, show_plot=False))
    quietly(learn, lambda: learn.fit_one_cycle(2, 1e-3, cbs=SaveModelCallback(monitor="valid_loss", fname="best", every_epoch=True)))
    last = learn.recorder.values[-1][1]
    assert last < 10 # lr_find did not spoil it
    saved = torch.load(learn.path/"models"/"best_1.pth", weights_only=False)
    for k, v in learn.model.state_dict().items(): torch.testing.assert_close(saved[k] if k in saved else saved["model"][k], v)
    assert quietly(learn, learn.validate)[0] == pytest.approx(last, rel=1e-4) # what was validated is in the model


def save_model(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit_one_cycle(2, 1e-3, cbs=SaveModelCallback(monitor="wa")))
    assert (learn.path/"models"/"model.pth").exists()
    best = max(v[2] for v in learn.recorder.values)
    assert quietly(learn, learn.validate)[1] == pytest.approx(best, abs=1e-6)


def early_stopping(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit_one_cycle(5, 1e-9, cbs=EarlyStoppingCallback(monitor="valid_loss", min_delta=10, patience=1)))
    assert len(learn.recorder.values) == 2


def reduce_on_plateau(o):
    learn = o.learner()
    quietly(learn, lambda: learn.fit(3, cbs=ReduceLROnPlateau(monitor="valid_loss", min_delta=10, patience=1)))
    got = rates(learn)
    assert got["head"] == pytest.approx(1e-3/100)
    if o.kind == "psr": assert got["stn"]/got["head"] == pytest.approx(.1)


def export(o):
    learn = o.fitted()
    learn.export("model.pkl")
    again = load_learner(learn.path/"model.pkl")
    file = next(iter(o.loaders(o.soft).path.rglob("*.png")))
    a, b = (quietly(x, lambda x=x: x.predict(file)) for x in (learn, again))
    assert a[0] == b[0] and a[0] in EMOTIONS
    torch.testing.assert_close(a[2], b[2], atol=1e-5, rtol=0)


def predict(o):
    learn = o.fitted()
    file = next(iter(o.loaders(o.soft).path.rglob("*.png")))
    upright = Image.open(file).convert("RGB")
    turned = upright.transpose(Image.Transpose.ROTATE_90) # shown upright by its EXIF tag
    exif = Image.Exif(); exif[274] = 6
    turned.save(o.tmp/"turned.png", exif=exif)
    want = quietly(learn, lambda: learn.predict(upright))
    for x in (file, upright, o.tmp/"turned.png", Image.open(o.tmp/"turned.png"), torch.from_numpy(np.array(upright))):
        name, index, p = quietly(learn, lambda x=x: learn.predict(x))
        assert name == want[0] == EMOTIONS[int(index)]
        torch.testing.assert_close(p, want[2], atol=1e-5, rtol=0)


def dl_of_files(o):
    learn, dls = o.fitted(), o.loaders(o.soft)
    files = sorted(dls.path.rglob("*.png"))[:5]
    p, y = quietly(learn, lambda: learn.get_preds(dl=learn.dls.test_dl(files)))
    assert p.shape == (5, 8) and y is None
    rows = learn.dls.valid_ds.items.iloc[:5]
    p, y = quietly(learn, lambda: learn.get_preds(dl=learn.dls.test_dl(rows, with_labels=True)))
    assert p.shape == (5, 8) and len(y) == 5
    names = rows["label"].tolist()
    assert [EMOTIONS[int(v.argmax() if v.ndim else v)] for v in y] == names


def get_preds(o):
    learn = o.fitted()
    p, y, d = quietly(learn, lambda: learn.get_preds(ds_idx=1, with_decoded=True))
    assert p.shape == (len(learn.dls.valid_ds), 8) and (d == p.argmax(1)).all()
    assert quietly(learn, learn.validate)[1] == pytest.approx((d == y).float().mean().item(), abs=1e-6)


def tta(o):
    learn = o.fitted()
    p, y = quietly(learn, lambda: learn.tta(ds_idx=1, n=2))
    mine, again = quietly(learn, lambda: learn.psr_tta(ds_idx=2, n=2))
    for a in (p, mine): torch.testing.assert_close(a.sum(1), torch.ones(len(a)), atol=1e-4, rtol=0)
    assert len(mine) == len(learn.dls[2].dataset) and again.shape == (len(mine),)
    plain, _ = learn.psr_tta(ds_idx=1, views="none")
    torch.testing.assert_close(plain, quietly(learn, lambda: learn.get_preds(ds_idx=1))[0], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="shuffles its faces"): learn.psr_tta(ds_idx=0)


def show_batch(o):
    learn = o.learner()
    learn.dls.show_batch(max_n=4)
    titles = shown_titles()
    assert len(titles) == 4 and all(t.split()[0] in EMOTIONS for t in titles)


def show_results(o):
    learn = o.fitted()
    with learn.no_bar(): learn.show_results(ds_idx=1, max_n=4)
    titles = shown_titles()
    assert len(titles) == 4 and all(t.split()[0] in EMOTIONS for t in titles)


def shown_titles():
    import matplotlib.pyplot as plt
    found = [a.get_title() for a in plt.gcf().axes if a.get_title()]
    plt.close("all")
    return found


def interpretation(o):
    import matplotlib.pyplot as plt
    learn = o.fitted()
    with learn.no_bar(): interp = ClassificationInterpretation.from_learner(learn)
    with learn.no_bar(): interp.plot_confusion_matrix()
    axes = plt.gcf().axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == list(EMOTIONS)
    plt.close("all")
    with learn.no_bar(): assert interp.confusion_matrix().sum() == len(learn.dls.valid_ds)


def classification_report(o):
    learn = o.fitted()
    with learn.no_bar(): interp = ClassificationInterpretation.from_learner(learn)
    import contextlib
    import io
    with contextlib.redirect_stdout(io.StringIO()) as out, learn.no_bar(): interp.print_classification_report()
    assert all(k in out.getvalue() for k in EMOTIONS)


def top_losses(o):
    learn = o.fitted()
    with learn.no_bar(): interp = ClassificationInterpretation.from_learner(learn)
    with learn.no_bar(): interp.plot_top_losses(4)
    titles = shown_titles()
    assert len(titles) == 4 and all(t.split("/")[0].strip() in EMOTIONS for t in titles)


def progressive_resizing(o):
    learn = o.fitted()
    learn.dls = o.loaders(o.soft, 48)
    quietly(learn, lambda: learn.fit_one_cycle(1, 1e-3))
    assert learns(learn) and learn.dls.one_batch()[0].shape[-2:] == (48, 48)


def plain_vision_learner(o):
    learn = vision_learner(o.loaders(o.soft), "resnet18", pretrained=False)
    quietly(learn, lambda: learn.fit(1))
    assert isinstance(learn.loss_func, CrossEntropyLossFlat) and learns(learn)


def own_item_transform(o):
    from fastai.vision.all import Transform
    class Black(Transform):
        order = 2 # after the resize, before the tensor
        def encodes(self, x: Image.Image): return type(x).create(np.zeros((*x.size[::-1], 3), np.uint8))
    dls = o.loaders(o.soft)
    assert dls.valid.one_batch()[0].std((2, 3)).min() > .01
    dls.valid.after_item.add(Black())
    assert dls.valid.one_batch()[0].std((2, 3)).max() < 1e-4 # one colour


ROWS = {
    "fastai's cross-entropy": loss_of(CrossEntropyLossFlat), "label smoothing of fastai": loss_of(LabelSmoothingCrossEntropyFlat),
    "focal loss of fastai": loss_of(FocalLossFlat), "cross-entropy of torch": loss_of(nn.CrossEntropyLoss), "fit": fit, "fit_one_cycle, default rates": fit_default_rates,
    "fit_one_cycle, one rate": fit_one_number, "fit_one_cycle, slice": fit_slice, "fine_tune": fine_tune, "lr_find": lr_find, "freeze and unfreeze": freeze,
    "MixUp": with_callback(MixUp), "CutMix": with_callback(CutMix), "EMA": ema, "SaveModelCallback": save_model, "EarlyStoppingCallback": early_stopping,
    "ReduceLROnPlateau": reduce_on_plateau, "GradientAccumulation": with_callback(lambda: GradientAccumulation(32)),
    "mixed precision": with_callback(lambda: [MixedPrecision() if torch.cuda.is_available() else Autocast(), ShortEpochCallback(.15)]), "export and load_learner": export,
    "predict: path, PIL image, tensor, EXIF": predict, "test_dl with and without labels": dl_of_files, "get_preds": get_preds, "tta and psr_tta": tta, "show_batch": show_batch,
    "show_results": show_results, "ClassificationInterpretation": interpretation, "print_classification_report": classification_report,
    "plot_top_losses": top_losses, "progressive resizing": progressive_resizing, "vision_learner on our DataLoaders": plain_vision_learner,
    "own item transforms": own_item_transform}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("kind", ["psr", "baseline"])
@pytest.mark.parametrize("row", ROWS)
def test_fastai(row, kind, soft, loaders, tmp_path):
    column = f"{kind}, {'soft' if soft else 'hard'} labels"
    RESULTS.setdefault(row, {})[column] = "fails"
    ROWS[row](Case(kind, soft, loaders, tmp_path))
    RESULTS[row][column] = "works"


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    file = os.environ.get("CONTRACT")
    if not file: return
    columns = [f"{k}, {s} labels" for k in ("psr", "baseline") for s in ("hard", "soft")]
    lines = ["| | " + " | ".join(columns) + " |", "|---"*5 + "|"] + [f"| {k} | " + " | ".join(v.get(c, "") for c in columns) + " |" for k, v in RESULTS.items()]
    with open(file, "w") as f: f.write("\n".join(lines) + "\n")
