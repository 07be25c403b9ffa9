"""Moved to psr_fer.predict.images, psr_fer.predict.predictor and psr_fer.checkpoints; this name stays for one release."""
from .checkpoints import DEFAULT, check_writable, checkpoint_files # noqa: F401
from .predict.images import ANNOTATED as DRAWN, IMAGES as PICTURES, VIDEOS, is_camera, is_folder, is_url, is_video # noqa: F401
from .predict.predictor import TABLES, check_out, check_request # noqa: F401
