"Old name, kept for one release: use `psr_fer.metrics`."
from psr_fer.metrics import ENOUGH, ece, ece_before_after, ece_beside, fit_temperature, reliability, scale_log_probs  # noqa: F401
