"""A run as one offline HTML page: which arm to use, why, and every answer beside its document."""

from hybridqa.eval.dashboard.build import build_page, write_page

__all__ = ["build_page", "write_page"]
