"Alias of earlier releases: the demo lives in `psr_fer.reproduce.run`."
from psr_fer.reproduce.run import run_demo  # noqa: F401
