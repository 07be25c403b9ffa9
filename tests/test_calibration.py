"""Calibration by hand."""
import numpy as np
import pytest
import torch

from psr_fer.calibration import ece, fit_temperature, reliability, scale_log_probs


def test_fit_temperature_by_hand():
    logp = torch.tensor([[.9,.1]]*4).log()
    assert fit_temperature(logp, [0,0,0,1]) == pytest.approx(2, abs=1e-4) # odds of 9 become odds of 3
    assert fit_temperature(logp/2, np.array([0,0,0,1])) == pytest.approx(1, abs=1e-4)
    assert fit_temperature(logp + 5, [[.75,.25]]*4) == pytest.approx(2, abs=1e-4) # shares; any constant is the same
    assert fit_temperature(logp, [0]*4) < .1 and fit_temperature(logp, [1]*4) == pytest.approx(20, rel=1e-3) # near the ends of the range
    assert np.isfinite(fit_temperature([[0, -np.inf], [0, -np.inf]], [0, 1]))
    assert scale_log_probs(logp, 2)[0] == pytest.approx([.75,.25]) and scale_log_probs([[0, -1e9]])[0] == pytest.approx([1,0])


def test_ece_by_hand():
    p = np.array([[.9,.1],[.9,.1],[.1,.9],[.6,.4]])
    assert ece(p, [0,0,1,1], bins=10) == pytest.approx(.75*.1 + .25*.6) and ece(p, [0,0,1,1], bins=1) == pytest.approx(.825 - .75)
    assert ece(torch.eye(3), [0,1,2]) == 0 and ece(np.eye(3), [1,2,0]) == 1 and ece(np.full((4,2), .5), [0,0,1,1]) == 0
    r = reliability(p, [[1,0],[.6,.4],[0,2],[.2,.8]], bins=2)
    assert r["faces"].tolist() == [4] and r["low"].tolist() == [.5] and r["accuracy"].tolist() == [.75]
    edge = reliability(np.array([[.8,.2],[.801,.199]]), [0,0], bins=5)
    assert edge["low"].tolist() == pytest.approx([.6,.8]) # a bin holds its upper end


@pytest.mark.parametrize("call,words", [
    (lambda: fit_temperature([[0.,1.]], [2]), "class indices from 0 to 1"),
    (lambda: fit_temperature([0.,1.], [1]), r"needs \(N,C\) numbers"),
    (lambda: fit_temperature([[np.nan,1.]], [1]), "none of them NaN"),
    (lambda: ece([[-1.,-2.]], [0]), "take exp of log-probabilities"),
    (lambda: ece([[.5,.5]], [0], bins=0), "bins must be 1 or more"),
    (lambda: scale_log_probs([[0.,1.]], 0), "temperature must be above 0"),
])
def test_calibration_bad_input(call, words):
    with pytest.raises(ValueError, match=words): call()
