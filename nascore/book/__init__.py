"""The figures and tables of the book."""

from nascore.book import plots
from nascore.book.explorer import WiringExplorer
from nascore.book.parameters import Parameters
from nascore.book.tables import RunTable, VerdictBox, scorecard_table
