"""People in videos: numbers, averages over time, curves, annotated copies, in constant memory."""
import resource

import numpy as np
import pytest
from PIL import Image

from psr_fer.emotions import EMOTIONS
from psr_fer.predict import Face, Predictor, Timeline, Tracker, VideoWriter, plot_timeline, predict_paths, read_video


def face(box, k=0): return Face(tuple(box), EMOTIONS[k], {o: float(i == k) for i, o in enumerate(EMOTIONS)})


@pytest.fixture
def long_video(tmp_path): # 10,000 frames
    film, rng = VideoWriter(tmp_path/"long.mp4"), np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (48, 48, 3), np.uint8)) for _ in range(8)]
    for t in range(10_000): film.add(frames[t % 8], t/50)
    film.close()
    return tmp_path/"long.mp4"


@pytest.mark.parametrize("seed", range(5))
def test_tracker_random_walks(seed): # people who move by less than half a face and stay apart keep their numbers, in any order
    rng, track = np.random.default_rng(seed), Tracker()
    at = np.array([[0, 0], [400, 0], [0, 400], [400, 400]], float)
    for t in range(50):
        order = rng.permutation(4)
        seen = track([face((*at[i], *at[i] + 60)) for i in order], t/10)
        if t == 0: who = {i: o.person for i, o in zip(order, seen, strict=True)}
        assert {i: o.person for i, o in zip(order, seen, strict=True)} == who and sorted(who.values()) == [1, 2, 3, 4]
        at = np.clip(at + rng.uniform(-25, 25, at.shape), [[0, 0], [400, 0], [0, 400], [400, 400]], [[200, 200], [600, 200], [200, 600], [600, 600]])


def test_tracker_one_number_for_one_face():
    track = Tracker()
    track([face((0, 0, 60, 60))], 0)
    assert sorted(o.person for o in track([face((0, 0, 60, 60)), face((5, 5, 65, 65))], .1)) == [1, 2]


@pytest.mark.parametrize("gap, person", [(.5, 1), (1., 1), (1.01, 2)])
def test_tracker_patience(gap, person):
    track = Tracker(patience=1)
    track([face((0, 0, 60, 60))], 0)
    assert track([face((0, 0, 60, 60))], gap)[0].person == person


@pytest.mark.parametrize("args", [(-1,), (0, -1)])
def test_tracker_negative_seconds(args):
    with pytest.raises(ValueError, match="seconds, 0 or more"): Tracker(*args)


def test_timeline_keeps_every_frame():
    line = Timeline()
    for t in range(30_000): line.add([face((0, 0, 9, 9), t % 8)], t/25)
    steps = line.people[None] # nobody has numbered them
    assert len(steps) <= Timeline.STEPS and sum(n for _, n in steps.values()) == 30_000
    np.testing.assert_allclose(sum(p for p, _ in steps.values()), np.full(8, 30_000/8))


def test_plot_timeline_without_faces():
    with pytest.raises(ValueError, match="no face in any frame"): plot_timeline(Timeline())


@pytest.mark.parametrize("times", [[0], [0, .04, .08], [0, .5, .6, 2.]])
def test_video_writer_lasts_as_long_as_its_times(tmp_path, times):
    film = VideoWriter(tmp_path/"a.mp4")
    for t in times: film.add(Image.new("RGB", (64, 48)), t)
    film.close()
    last = [o for _, o in read_video(tmp_path/"a.mp4")][-1]
    assert last == pytest.approx(times[-1], abs=.06)
    assert [o.name for o in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.slow
def test_predict_paths_ten_thousand_frames_in_flat_memory(long_video, tmp_path):
    predictor = Predictor()
    def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024 # MB
    def run(**kwargs): return predict_paths(long_video, predictor, out=tmp_path/"r.csv", detect=False, smooth=1, say=lambda o: None, progress=False, **kwargs)
    run(every=10) # 1,000 frames
    before = peak()
    assert run()["faces"] == 10_000
    assert peak() - before < 60
