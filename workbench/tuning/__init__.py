"""Practice 4: hyperparameters turned into an optimizer, a schedule, a precision and a dropout."""

from workbench.tuning.device import choose_device as choose_device
from workbench.tuning.device import choose_precision as choose_precision
from workbench.tuning.dropout import set_dropout as set_dropout
from workbench.tuning.optimizer import build_optimizer as build_optimizer
from workbench.tuning.schedule import joining as joining
from workbench.tuning.schedule import learning_rate as learning_rate
