"""A pytest plugin, and an import to run first: whatever belongs to Jupyter can't be imported from here on."""

import sys

NAMES = (
    "IPython",
    "anywidget",
    "comm",
    "ipykernel",
    "ipywidgets",
    "jupyter",
    "nbclient",
    "nbformat",
    "traitlets",
    "widgets",
)


class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top in NAMES or top.startswith("jupyter"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


sys.meta_path.insert(0, Blocked)
