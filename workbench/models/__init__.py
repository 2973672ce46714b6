"""The pretrained models (backbones): which ones exist, how to load one, and which blocks it consists of.

Importing this package takes milliseconds; torch and transformers are imported by the first `load`.
"""

from workbench.models.blocks import Block as Block
from workbench.models.load import Backbone as Backbone
from workbench.models.load import load as load
from workbench.models.load import load_saved as load_saved
