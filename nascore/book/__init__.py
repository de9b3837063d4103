"""The figures and tables of the book."""

from typing import TYPE_CHECKING

from nascore.lazy import public_names

if TYPE_CHECKING:
    from nascore.book import plots as plots
    from nascore.book.tables import RunTable as RunTable
    from nascore.book.tables import VerdictBox as VerdictBox
    from nascore.book.tables import scorecard_table as scorecard_table

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
