"""Practice 3: which blocks of a pretrained model learn, and whether their own weights do or adapters beside them."""

from workbench.transfer.freezing import Counts as Counts
from workbench.transfer.freezing import apply as apply
from workbench.transfer.freezing import changeable as changeable
from workbench.transfer.freezing import count as count
from workbench.transfer.freezing import resolve as resolve
from workbench.transfer.freezing import train_mode as train_mode
from workbench.transfer.lora import fold as fold
from workbench.transfer.lora import is_adapter as is_adapter
from workbench.transfer.lora import merge as merge
from workbench.transfer.proof import fingerprints as fingerprints
from workbench.transfer.proof import frozen_tensors as frozen_tensors
from workbench.transfer.proof import moved as moved
from workbench.transfer.proof import where as where
