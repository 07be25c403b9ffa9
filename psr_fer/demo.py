"Old name, kept for one release: use `psr_fer.reproduce`."
from psr_fer.reproduce.run import run_demo  # noqa: F401
