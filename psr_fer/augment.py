"Old name, kept for one release: use `psr_fer.data.augment`."
from psr_fer.data.augment import * # noqa: F403
from psr_fer.data.augment import AUGMENTS # noqa: F401
