"Old name, kept for one release: use `psr_fer.reproduce.report`."
from psr_fer.reproduce.report import check_page_out, page, report  # noqa: F401
