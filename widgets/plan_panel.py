"""PlanPanel: the plan of the next run as the Python that starts it, and as a file that is saved and opened again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from widgets import wording
from widgets.panel import Panel, page, style
from workbench.errors import QUESTION, PlanError
from workbench.plan import files
from workbench.plan.plan import SECTION_OF, Plan
from workbench.plan.to_python import STANDS_FOR

NAME = "plan.json"


class PlanPanel(Panel):
    """The plan of the session: as lines of Python, and as files in the working directory or of the browser."""

    _esm = page("fields.js", "plan.js")
    _css = style("plan.css")

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._name = NAME  # what is in the field for the file
        self._said = ""  # what was done last
        self._error = ""  # why it was not done
        self._in_the_way: str | None = None  # the file that would be overwritten
        self._opened: tuple[Plan, Plan] | None = None  # the plan before and after another one was opened
        self._files: tuple[str, ...] = ()
        super().__init__(session, **objects)

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the buttons."""
        return {
            "list": self._list,
            "save": self._save,
            "open": self._open,
            "upload": self._upload,
            "undo": self._undo,
        }

    def picture(self) -> dict[str, Any]:
        """Return the plan as Python and as JSON, the files, and what was done last."""
        plan = self.session.plan
        return {
            "summary": _summary(plan),
            "code": plan.to_python(given=self.session.objects),
            "json": plan.to_json(),
            "name": self._name,
            "files": list(self._files),
            "said": self._said,
            "error": self._error,
            "in_the_way": self._in_the_way,
            "can_undo": self._opened is not None and self._opened[1] == plan,
        }

    def _list(self) -> None:
        self._files = files.listed(Path.cwd(), set(SECTION_OF.values()))

    def _save(self, name: str, *, replace: bool = False) -> None:
        path = self._path(name)
        try:
            self._said = f"saved as {self.session.plan.save(path, replace=replace).absolute()}"
        except PlanError as error:
            self._in_the_way = self._name if isinstance(error.__cause__, FileExistsError) else None
            self._error = error.what if self._in_the_way else _in_words(error)
        self._list()

    def _open(self, name: str) -> None:
        path = self._path(name)
        try:
            self._take(Plan.open(path), str(path))
        except PlanError as error:
            self._error = _in_words(error)

    def _upload(self, name: str, text: str) -> None:
        self._path(name)
        try:
            self._take(Plan.from_json(text), name)
        except PlanError as error:
            self._error = _in_words(error)

    def _take(self, plan: Plan, name: str) -> None:
        """Make `plan` the plan of the session, which keeps the objects that it was given."""
        before, own = self.session.plan, {STANDS_FOR.get(thing) for thing in self.session.objects}
        after = self.session.change(**{field: value for field, value in plan.flat().items() if field not in own})
        changed = len(before.differences(after))
        self._said = f"opened {name}: {wording.plural(changed, 'field')} changed" if changed else f"{name} is this plan"
        self._opened = (before, after) if changed else None

    def _undo(self) -> None:
        if self._opened is not None:
            self.session.change(**self._opened[0].flat())
        self._opened, self._said, self._error = None, "the plan is as it was before", ""

    def _path(self, name: str) -> Path:
        """Forget what was done before, and return the path of the file with this name."""
        self._said, self._error, self._in_the_way, self._opened = "", "", None, None
        self._name = name.strip() or NAME
        return Path(self._name if Path(self._name).suffix else f"{self._name}.json")


def _summary(plan: Plan) -> str:
    changed = len(Plan().differences(plan))
    return f"{wording.plural(changed, 'field')} changed" if changed else "default"


def _in_words(error: PlanError) -> str:
    """Return an error; advice for code (a call) is replaced with what can be done in the panel."""
    hint = "choose a file from the list, or press Save to make one" if "(" in error.hint else error.hint
    return f"{error.what}{'. ' if hint.startswith(QUESTION) else '; '}{hint}" if hint else error.what
