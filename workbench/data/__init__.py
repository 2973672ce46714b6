"""Data: from a file, a folder, an object in memory or a named source to rows in three splits.

    source -> reading -> Table -> guessing (which column is what) -> rows (clean) -> splitting -> Split

`load` is the one way in. Importing this package is quick; `datasets` and pandas are imported by the first load.
"""

from workbench.data.loading import load as load
from workbench.data.sources import SOURCES as SOURCES
from workbench.data.sources import Source as Source
from workbench.data.split import Split as Split
