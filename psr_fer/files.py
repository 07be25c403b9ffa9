"""Old name of parts of psr_fer.predict and psr_fer.checkpoints, for one release."""
from .checkpoints import DEFAULT, check_writable, checkpoint_files # noqa: F401
from .predict import ANNOTATED as DRAWN, IMAGES as PICTURES, TABLES, VIDEOS, check_out, check_request # noqa: F401
__all__ = []
