"Old name, kept for one release: use `psr_fer.data.datasets`."
from psr_fer.data.datasets import * # noqa: F403
from psr_fer.data.datasets import detect_dataset as find_dataset, read_dataset as dataset_table, read_folder as read_dataset # noqa: F401
