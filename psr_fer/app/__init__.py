"""A web page for images and the camera, on this computer only: `psr-fer app`."""
from .app import example, inside, make_app, read_upload, run_app

__all__ = ["example", "inside", "make_app", "read_upload", "run_app"]
