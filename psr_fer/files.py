"Old name, kept for one release: use `psr_fer.predict`."
from .checkpoints import DEFAULT, check_writable, checkpoint_files # noqa: F401
from .predict import ANNOTATED as DRAWN, IMAGES as PICTURES, TABLES, VIDEOS, check_out, check_request # noqa: F401
__all__ = []
