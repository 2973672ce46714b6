"""Practice 6: what is measured. Loss is in nats per target; everything else is derived from counted things."""

from workbench.monitoring.completion import complete as complete
from workbench.monitoring.extra import added as added
from workbench.monitoring.extra import resolve as resolve
from workbench.monitoring.metrics import METRICS as METRICS
from workbench.monitoring.metrics import classification_metrics as classification_metrics
from workbench.monitoring.metrics import perplexity as perplexity
from workbench.monitoring.records import history as history
from workbench.monitoring.records import plot as plot
