"""The sections of a plan, one for each group of practices. Each field has its meaning, its unit and its range."""

from workbench.plan.choices.baseline import Baseline as Baseline
from workbench.plan.choices.data import TASKS as TASKS
from workbench.plan.choices.data import Data as Data
from workbench.plan.choices.data import TaskName as TaskName
from workbench.plan.choices.monitoring import Monitoring as Monitoring
from workbench.plan.choices.monitoring import SaveModel as SaveModel
from workbench.plan.choices.monitoring import StopMode as StopMode
from workbench.plan.choices.retention import Retention as Retention
from workbench.plan.choices.retention import UnfreezeOn as UnfreezeOn
from workbench.plan.choices.transfer import Method as Method
from workbench.plan.choices.transfer import Transfer as Transfer
from workbench.plan.choices.tuning import Batching as Batching
from workbench.plan.choices.tuning import Device as Device
from workbench.plan.choices.tuning import Precision as Precision
from workbench.plan.choices.tuning import Schedule as Schedule
from workbench.plan.choices.tuning import Tuning as Tuning
from workbench.plan.fields import Switch as Switch
