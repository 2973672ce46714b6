"""The scores of a run on its test rows, in a file of their own next to the log.

Test rows are for one honest score at the end. So each score is recorded, and everybody who opens the run later can see
that its test rows were used. The scores are not in the log, because they are no part of the training.
"""

from pathlib import Path

from workbench.errors import RunError
from workbench.events import EvaluationEnded
from workbench.runs.disk.log import Log

FILE = "test_scores.jsonl"


def read(folder: Path) -> list[EvaluationEnded]:
    """Return the scores of a run on its test rows, oldest first.

    Raises:
        RunError: The file can't be read.
    """
    return [event for event in Log(folder / FILE).events() if isinstance(event, EvaluationEnded)]


def record(folder: Path, score: EvaluationEnded) -> None:
    """Add a score.

    Raises:
        RunError: It could not be written, or the file is a link to elsewhere.
    """
    path = folder / FILE
    if path.is_symlink():
        raise RunError(f"{path} is a link, so the score would be written elsewhere", hint="replace it by the file")
    log = Log(path)
    try:
        log.append(score)
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror}", hint="ask the owner of the folder") from error
    finally:
        log.close()
