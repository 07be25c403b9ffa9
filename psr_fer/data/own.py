"Old name, kept for one release: use `psr_fer.data.custom`."
from psr_fer.data.custom import * # noqa: F403
from psr_fer.data.custom import custom_block as own_block, custom_dls as own_dls, custom_layout as own_layout, custom_table as own_table # noqa: F401
