"""Data: from a file, a folder, an object in memory or a named source to rows in three splits.

    source -> reading -> Table -> guessing (the role of each column) -> rows (cleaned) -> splitting -> Split

Call `load`; it runs all these steps. Importing this package is quick: `load` itself imports `datasets` and pandas.
"""

from workbench.data.loading import load as load
from workbench.data.reading import check_table as check_table
from workbench.data.reading import is_table as is_table
from workbench.data.sources import SOURCES as SOURCES
from workbench.data.sources import Source as Source
from workbench.data.split import Split as Split
