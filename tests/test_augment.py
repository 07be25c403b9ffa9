"""The batch augmentation moves what it says, by as much as it says, and only then."""
import math

import pytest
import torch
from fastai.vision.core import TensorImage

from psr_fer.data.augment import (
    AUGMENTS,
    FERAugment,
    augmentation,
    random_erase,
    random_homography,
    random_lighting,
    random_reduction,
    warp_batch,
)


def spot(y, x, size=65): # one bright pixel on black, blurred a little so that it survives sampling
    im = torch.zeros(1, 1, size, size)
    im[0, 0, y - 1:y + 2, x - 1:x + 2] = 1
    return im


def centre(im): # centre of mass in pixels from the middle
    n = im.shape[-1]
    at = torch.arange(n) - (n - 1)/2
    m = im[0, 0]/im.sum()
    return float((m.sum(1)*at).sum()), float((m.sum(0)*at).sum())


def gen(seed=0): return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(4))
def test_rotation_and_zoom_are_those_of_the_matrix(seed):
    m = random_homography(1, rotate=40, zoom=1.3, flip=False, p=1., generator=gen(seed))
    a = m[0, :2, :2]
    zoom = 1/float(torch.linalg.det(a).sqrt())
    angle = math.degrees(math.atan2(float(a[1, 0]), float(a[0, 0])))
    assert 1 <= zoom <= 1.3 and -40 <= angle <= 40
    y, x = centre(warp_batch(spot(24, 36), m))
    inverse = torch.linalg.inv(m[0])@torch.tensor([(36 - 32)*2/65, (24 - 32)*2/65, 1.])
    assert (y, x) == pytest.approx((float(inverse[1]*65/2), float(inverse[0]*65/2)), abs=.25)


def test_p_zero_changes_nothing_but_flips():
    x = torch.rand(8, 3, 16, 16)
    same = FERAugment(p=0., flip=False, split_idx=None)(TensorImage(x))
    torch.testing.assert_close(same.as_subclass(torch.Tensor), x, atol=2e-2, rtol=0)  # logit of 0 and 1 is clamped
    flipped = warp_batch(x, random_homography(8, flip=True, generator=gen()))
    turned = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(flipped, x, strict=True)]
    assert 0 < sum(turned) < 8 and all(t or torch.allclose(a, b, atol=1e-4) for t, a, b in zip(turned, flipped, x, strict=True))


@pytest.mark.parametrize("name", AUGMENTS)
def test_named_settings_stay_images(name):
    x = torch.rand(16, 1, 24, 24)
    for t in augmentation(name):
        y = t(TensorImage(x), split_idx=0)
        assert y.shape == x.shape and torch.isfinite(y).all()
        assert y.min() >= -1e-4 and y.max() <= 1 + 1e-4
        assert not torch.allclose(y, x, atol=.05)
        torch.testing.assert_close(t(TensorImage(x), split_idx=1).as_subclass(torch.Tensor), x)  # validation is left alone


def test_reduction_loses_detail_and_nothing_else():
    fine = torch.rand(300, 2, 40, 24)
    out = random_reduction(fine, 6., p=.5, generator=gen())
    same = (out == fine).flatten(1).all(1)
    assert .4 < same.float().mean() < .65 and out.shape == fine.shape and out.min() >= 0 and out.max() <= 1
    assert (out[~same].flatten(1).std(1) < fine[~same].flatten(1).std(1)).all()  # every other one lost contrast
    flat = torch.full((20, 1, 32, 32), .3)
    torch.testing.assert_close(random_reduction(flat, 30., p=1.), flat, atol=1e-5, rtol=0)  # as bright as before; 4 pixels are left
    torch.testing.assert_close(random_reduction(fine, 6., p=.5, generator=gen()), out)
    with pytest.raises(ValueError, match="at least 1, got 0.5"): FERAugment(reduce=.5)


def test_seed_repeats_the_views():
    x = TensorImage(torch.rand(4, 1, 16, 16))
    a, b = [FERAugment(seed=3, split_idx=None) for _ in range(2)]
    first = a(x)
    torch.testing.assert_close(first, b(x))
    assert not torch.allclose(first, a(x))


def test_lighting_keeps_order_and_range():
    x = torch.linspace(.05, .95, 9).view(1, 1, 1, 9).repeat(200, 1, 1, 1)
    y = random_lighting(x, .5, p=1., generator=gen())
    assert (y.diff(dim=-1) > 0).all() and y.min() > 0 and y.max() < 1
    assert abs(float(y.mean()) - .5) < .05 and float(y.mean((1, 2, 3)).std()) > .05  # fair, and not nothing


def test_erase_takes_about_its_share():
    x = torch.rand(300, 1, 32, 32)
    y = random_erase(x, .25, p=1., generator=gen())
    share = (y != x).float().mean((1, 2, 3))
    assert .09 < float(share.mean()) < .15 and float(share.max()) < .28


@pytest.mark.parametrize("args,words", [(dict(p=1.5), "p is a probability"), (dict(zoom=.5), "at least 1"),
    (dict(lighting=1.), "lighting must be in"), (dict(erase=-1), "erase is a share")])
def test_bad_settings(args, words):
    with pytest.raises(ValueError, match=words): FERAugment(**args)
