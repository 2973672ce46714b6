"""Practice 4: hyperparameters turned into an optimizer, a schedule, a dropout, and settings that suit the machine."""

from workbench.tuning.device import choose_device as choose_device
from workbench.tuning.device import idle_notes as idle_notes
from workbench.tuning.dropout import set_dropout as set_dropout
from workbench.tuning.memory import processor as processor
from workbench.tuning.optimizer import build_optimizer as build_optimizer
from workbench.tuning.schedule import joining as joining
from workbench.tuning.schedule import learning_rate as learning_rate
from workbench.tuning.settings import Settings as Settings
from workbench.tuning.settings import lie_plainly as lie_plainly
from workbench.tuning.trying import Trial as Trial
from workbench.tuning.trying import choose_settings as choose_settings
