"""Practice 1: the pretrained model that everything starts from: which there are, how to load one, what it is made of.

Importing this costs milliseconds; torch and transformers come with the first `load`.
"""

from workbench.models.blocks import Block as Block
from workbench.models.load import Backbone as Backbone
from workbench.models.load import load as load
