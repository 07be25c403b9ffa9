"""Intervals and verdicts that know about seeds: simulated trainings whose true difference is known."""
import numpy as np
import pytest

from psr_fer.reproduce.statistics import Comparison, compare, holm, mean_over_classes, slope_over, verdict, verdicts


def trainings(rng, effect, seeds, faces=600, between=.5, differ=.15):
    "Points per seed and face: a share `differ` of the faces is answered differently; seeds scatter by `between` points around the effect, faces around both."
    lead = (effect + between*rng.normal(size=(seeds, 1)))/100
    u = rng.random((seeds, faces))
    return 100*((u < (differ + lead)/2).astype(float) - (u > 1 - (differ - lead)/2))


@pytest.mark.slow
@pytest.mark.parametrize("seeds,between", [(3, .3), (3, 1.), (5, .5)])
def test_verdict_no_effect_false_below_5_percent(seeds, between):
    rng = np.random.default_rng(seeds)
    wrong = [verdict(compare(trainings(rng, 0., seeds, between=between), margin=0., n=300, seed=i)) != "inconclusive" for i in range(300)]
    assert np.mean(wrong) <= .05, np.mean(wrong)


@pytest.mark.slow
def test_verdict_interaction_no_effect_false_below_5_percent():
    rng = np.random.default_rng(1)
    wrong = [verdict(compare(trainings(rng, .5, 5), trainings(rng, .5, 3), margin=0., n=300, seed=i)) != "inconclusive" for i in range(200)]
    assert np.mean(wrong) <= .05, np.mean(wrong)


def test_verdict_large_effect_is_supported():
    rng = np.random.default_rng(0)
    found = [verdict(compare(trainings(rng, 4., 5, 2000, between=.3), n=500, seed=i)) for i in range(10)]
    assert found.count("supported") >= 9


def test_verdict_equivalence_contradicts_a_gain():
    rng = np.random.default_rng(0)
    same = 100*(rng.random((5, 20_000)) < .0005) - 100*(rng.random((5, 20_000)) < .0005)
    c = compare(same, n=500)
    assert c.p_equivalent < .05 and verdict(c) == "contradicted"


@pytest.mark.parametrize("seeds", [1, 2])
def test_verdict_fewer_than_three_seeds_is_inconclusive(seeds):
    c = compare(np.full((seeds, 100), 5.) + np.arange(seeds)[:, None]*.01, n=200)
    assert verdict(c) == "inconclusive" and c.seeds == seeds and (c.t_high == np.inf) == (seeds == 1)


def test_holm_equals_statsmodels_by_hand():
    assert holm([.01, .02, .03, .005]) == pytest.approx([.03, .04, .04, .02]) and holm([]) == [] and holm([.9, .8]) == [1., 1.]


def test_verdicts_family_is_corrected():
    c = Comparison(1., .1, 2., .1, 2., .03, 1., (1., 1., 1.), 3, 100)
    assert verdicts(dict(a=(c, 1))) == dict(a="supported")
    assert set(verdicts({k: (c, 1) for k in "abcd"}).values()) == {"inconclusive"}


def test_compare_welch_of_two_conditions():
    first, second = np.repeat([[3.], [5.]], 40, 1), np.repeat([[1.], [1.], [1.]], 40, 1)
    c = compare(first, second, n=200)
    assert c.estimate == pytest.approx(3) and c.t_low == pytest.approx(3 - 12.706, abs=.01) and c.seeds == 2


def test_statistics_of_classes_and_slope():
    values, faces = np.array([[1., 0., 1., 1.], [1., 0., 1., 1.]]), np.arange(4)
    assert mean_over_classes(np.array([0, 0, 1, 1]))(values, faces) == pytest.approx((.5 + 1)/2)
    assert slope_over(np.array([0., 1., 2., 3.]))(values, faces) == pytest.approx(np.polyfit(range(4), values[0], 1)[0])
    with pytest.raises(ValueError, match="the same test faces"): compare(np.zeros((2, 3)), np.zeros((2, 4)))
