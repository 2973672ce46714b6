"""Practice 6: what is measured. Loss is in nats per target; everything else is derived from counted things."""

from workbench.monitoring.completion import complete as complete
from workbench.monitoring.history import history as history
from workbench.monitoring.history import plot as plot
from workbench.monitoring.metrics import METRICS as METRICS
from workbench.monitoring.metrics import classification_metrics as classification_metrics
from workbench.monitoring.metrics import perplexity as perplexity
