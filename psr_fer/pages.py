"""Old name of the page functions of `psr_fer.report`, for one release."""
from .report import check_page_out, html_table, image_html as picture, page # noqa: F401

__all__ = []
