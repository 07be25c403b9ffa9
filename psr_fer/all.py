"The names people type: `from psr_fer.all import *`."
from psr_fer.callbacks import EMA
from psr_fer.data.affectnet import affectnet_block, affectnet_dls, affectnet_table
from psr_fer.data.ferplus import ferplus_block, ferplus_dls, ferplus_table
from psr_fer.data.rafdb import rafdb_block, rafdb_dls, rafdb_table
from psr_fer.data.synthetic import draw_face, synthetic_dls, synthetic_faces
from psr_fer.emotions import EMOTIONS, prior
from psr_fer.learner import baseline_learner, psr_learner
from psr_fer.losses import CELoss, LSLoss, PDLSLoss
from psr_fer.metrics import evaluate_scores, macro_f1, ua, wa
from psr_fer.models.convert import from_authors
from psr_fer.models.psr import PSR, Baseline
from psr_fer.predict import Predictor
from psr_fer.recipes import RECIPES, get_recipe
from psr_fer.runs import evaluate_run, train_run

__all__ = [
    "affectnet_block", "affectnet_dls", "affectnet_table", "Baseline", "baseline_learner", "CELoss", "draw_face", "EMA",
    "EMOTIONS", "evaluate_run", "evaluate_scores", "ferplus_block", "ferplus_dls", "ferplus_table", "from_authors", "get_recipe",
    "LSLoss", "macro_f1", "PDLSLoss", "Predictor", "prior", "PSR", "psr_learner", "rafdb_block", "rafdb_dls", "rafdb_table", "RECIPES",
    "synthetic_dls", "synthetic_faces", "train_run", "ua", "wa"]
