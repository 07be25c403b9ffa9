"Old name, kept for one release: use `psr_fer.callbacks`."
from psr_fer.callbacks import *  # noqa: F403
from psr_fer.callbacks import Checkpoint as Keep, Progress as Bar, unwrap_dl as inner  # noqa: F401
