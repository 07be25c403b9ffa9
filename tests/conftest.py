"""Fixtures that several test files share."""
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ: # workers share the cores; before torch is imported
    for o in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ[o] = "1"

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def ferplus_root():
    "The real FER+ in FERPlus layout, or a skip that says why."
    root = os.environ.get("PSR_FERPLUS")
    if not root: pytest.skip("PSR_FERPLUS is not set: give it a folder with FER+ in FERPlus layout to run this test")
    return Path(root)


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    "A small set of drawn faces in FER+'s layout."
    from psr_fer.data.synthetic import synthetic_faces
    root = tmp_path_factory.mktemp("drawn")/"faces"
    synthetic_faces(root, n=160, seed=1)
    return root
