"""Nothing that a stranger wrote is run, and nothing is written outside: pickles, code of checkpoints, links, wishes."""

import ast
import contextlib
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sample_events import STARTED, STEP

from workbench.errors import BackboneError, PlanError, RunError
from workbench.plan.plan import Plan
from workbench.runs.disk import run_list
from workbench.runs.disk.control import request
from workbench.runs.disk.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "workbench").rglob("*.py"), *(ROOT / "widgets").rglob("*.py")])

# --- what no line of the product may do ---

MODULES = {
    "pickle",
    "cloudpickle",
    "_pickle",
    "cPickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "yaml",
    "code",
    "pty",
}
PORTS = {"socket", "socketserver", "http", "xmlrpc", "multiprocessing.connection", "multiprocessing.managers", "zmq"}
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("evaluate.load", "datasets.load_dataset", "datasets.load_from_disk"),
}
ALLOWED = {
    ("employer.py", "imports cloudpickle"),  # writes objects for a child of its own, into a pipe
    ("worker.py", "imports pickle"),  # the child, which reads that pipe and nothing else
    ("user_metrics.py", "calls evaluate.load"),  # of metrics that code names; no plan and no run folder can
}


def faults(source, name):
    """Return what a file does that the product must not, as `line: what`."""
    tree = ast.parse(source)
    found = [(node.lineno, fault) for node in ast.walk(tree) for fault in _faults_of(node)]
    return [f"{name}:{line}: {fault}" for line, fault in found if (name, fault) not in ALLOWED]


def _faults_of(node):
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in names:
            top = module.partition(".")[0]
            if {module, top} & (MODULES | PORTS):
                yield f"imports {module}"
    if isinstance(node, ast.Call):
        yield from _faults_of_call(node)


def _faults_of_call(node):
    called = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in CALLS:
        yield f"calls {called}"
    if given.get("weights_only", "False" if called.endswith("torch.load") else "True") != "True":
        yield "loads more than weights"
    if given.get("shell", "False") != "False":
        yield "runs a shell"
    if given.get("allow_pickle", "False") != "False":
        yield "allows pickle"
    if given.get("trust_remote_code", "False") != "False":
        yield "trusts remote code"
    owner = called.rpartition(".")[0]
    if (
        called.endswith(("from_pretrained", "from_config"))
        and owner.startswith(("Auto", "transformers.Auto", "builder"))
        and "trust_remote_code" not in given
    ):
        yield f"{called} without trust_remote_code=False: it would ask whether to run code"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_line_loads_a_pickle_trusts_code_or_opens_a_port(path):
    assert faults(path.read_text(encoding="utf-8"), path.name) == []


BAD = [
    "import pickle",
    "from pickle import loads",
    "import cloudpickle",
    "import socket",
    "from multiprocessing.connection import Listener",
    "torch.load(path)",
    "torch.load(path, weights_only=False)",
    "eval(text)",
    "os.system('x')",
    "subprocess.run(x, shell=True)",
    "np.load(path, allow_pickle=True)",
    "AutoTokenizer.from_pretrained(name)",
    "AutoModel.from_pretrained(name, trust_remote_code=True)",
    "builder.from_config(config)",
    "x(trust_remote_code=plan.trust)",
    "evaluate.load(name)",
]


@pytest.mark.parametrize("line", BAD)
def test_each_bad_line_would_be_seen(line):
    assert len(faults(line, "x.py")) == 1


def test_the_worker_alone_unpickles_and_only_what_comes_through_its_pipe():
    words = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    loading = {name for name, text in words.items() if re.search(r"pickle\.loads?\b|Unpickler", text)}
    writing = {name for name, text in words.items() if re.search(r"pickle\.dumps?\b", text)}
    assert (loading, writing) == ({"worker.py"}, {"employer.py"})
    assert len(re.findall(r"pickle\.loads?\b", words["worker.py"])) == 1


WRITES_HTML = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|createContextualFragment|\beval\("
)


@pytest.mark.parametrize("path", sorted((ROOT / "widgets" / "static").glob("*.js")), ids=lambda path: path.name)
def test_no_page_parses_text_as_html(path):
    assert re.findall(WRITES_HTML, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("section", [*Plan().__dataclass_fields__, None])
@pytest.mark.parametrize("name", ["trust_remote_code", "revision", "code", "command"])
def test_a_plan_file_cant_ask_for_code(section, name):
    tree = {name: True} if section is None else {section: {name: True}}
    with pytest.raises(PlanError, match=f"no {name!r}"):
        Plan.from_json(json.dumps(tree))


# --- a backbone from a stranger ---


class Touch:
    """Unpickles to a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


TEXTS = {"task": "text-classification", "labels": ("no", "yes")}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny model on disk, with its tokenizer."""
    import tiny

    made, folder = tiny.backbone("bert"), tmp_path_factory.mktemp("backbone")
    made.model.save_pretrained(folder)
    made.preprocessor.save_pretrained(folder)
    return folder


@pytest.fixture
def stranger(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "stranger"))


@pytest.fixture
def trap(tmp_path):
    """A path that must not come into being."""
    path = tmp_path / "pwned"
    yield path
    assert not path.exists()


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["bare", "in the zip of torch"])
def test_weights_that_are_a_pickle_run_nothing(stranger, trap, how):
    from workbench import models

    (stranger / "model.safetensors").unlink()
    if how == "bare":
        (stranger / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Touch(trap)}))
    else:
        import torch

        torch.save({"x": Touch(trap)}, stranger / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"weights of .* can't be read") as caught:
        models.load(str(stranger), **TEXTS)
    assert caught.value.hint


CODE = "import os\nos.mkdir({trap!r})\nfrom transformers import {base}\nclass Evil({base}):\n    model_type = 'evil'\n"
WAYS_IN = {  # what the stranger names -> (file, its fields, base class)
    "config": ("config.json", {"auto_map": {"AutoConfig": "evil.Evil"}, "model_type": "evil"}, "PretrainedConfig"),
    "model": (
        "config.json",
        {"auto_map": {"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"}},
        "BertForSequenceClassification",
    ),
    "tokenizer": (
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"},
        "PreTrainedTokenizerFast",
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS_IN)
def test_code_that_comes_with_a_backbone_is_never_run(stranger, trap, way, monkeypatch):
    from workbench import models

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    file, fields, base = WAYS_IN[way]
    (stranger / "evil.py").write_text(CODE.format(trap=str(trap), base=base))
    edit(stranger / file, **fields)
    with contextlib.suppress(BackboneError):  # refused, or loaded with the code of transformers itself
        models.load(str(stranger), **TEXTS)
    assert "transformers_modules" not in sys.modules


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_code_that_comes_with_an_image_processor_is_never_run(tmp_path, trap, monkeypatch):
    import tiny

    from workbench import models

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    made, folder = tiny.backbone("vit"), tmp_path / "stranger"
    made.model.save_pretrained(folder)
    made.preprocessor.save_pretrained(folder)
    (folder / "evil.py").write_text(CODE.format(trap=str(trap), base="ViTImageProcessor"))
    auto_map = {"auto_map": {"AutoImageProcessor": "evil.Evil"}, "image_processor_type": "Evil"}
    edit(folder / "preprocessor_config.json", **auto_map)
    with pytest.raises(BackboneError, match="image processor"):
        models.load(str(folder), task="image-classification", labels=("a", "b"))


@pytest.mark.slow
def test_a_plan_from_a_stranger_that_names_its_backbone_runs_nothing(stranger, trap, tmp_path):
    from workbench import run

    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"the {i}th text,{'ab'[i % 2]}\n" for i in range(20)))
    (stranger / "model.safetensors").unlink()
    (stranger / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(trap)))
    tree = {"baseline": {"backbone": str(stranger)}, "data": {"source": str(tmp_path / "rows.csv")}}
    with pytest.raises(BackboneError):
        list(run(Plan.from_json(json.dumps(tree)), runs=tmp_path / "runs"))


# --- a run folder from a stranger ---


@pytest.fixture
def precious(tmp_path):
    """A file outside every run folder, which must stay as it is."""
    path = tmp_path / "precious"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


@pytest.fixture
def hostile(tmp_path, precious):
    """A run folder with every file a link to something precious, but for a plan and a log that can be read."""
    folder = RunFolder.create(Plan(), tmp_path / "runs")
    for event in (STARTED, STEP):
        folder.append(event)
    folder.close()
    for name in ("wishes.jsonl", "run.lock", "schedule.json", "worker.json"):
        (folder.path / name).symlink_to(precious)
    (folder.path / "environment.json").unlink()
    (folder.path / "environment.json").symlink_to(precious)
    (folder.path / "checkpoints").symlink_to(precious.parent)
    return folder


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (os.readlink(path) if path.is_symlink() else path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def test_a_strangers_run_is_listed_and_read_and_nothing_is_written(hostile, tmp_path):
    before = snapshot(tmp_path)
    (summary,) = run_list.summaries(hostile.path.parent)
    assert (summary.state, summary.step) == ("running", STEP.step)
    folder = run_list.find(hostile.name, hostile.path.parent)
    assert list(folder.events()) == [STARTED, STEP]
    assert folder.plan() == Plan()
    assert folder.environment() == {}
    assert folder.is_locked in (True, False)
    assert snapshot(tmp_path) == before


def test_a_strangers_run_is_not_carried_on_through_its_links(hostile, tmp_path):
    before = snapshot(tmp_path)
    with pytest.raises(RunError, match="is a link to elsewhere"), hostile.locked():
        pass
    assert snapshot(tmp_path) == before


def test_a_link_among_the_checkpoints_is_seen_too(tmp_path, precious):
    folder = RunFolder.create(Plan(), tmp_path / "runs")
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "step-000001").symlink_to(precious.parent)
    with pytest.raises(RunError, match=r"checkpoints/step-000001 .* is a link to elsewhere"), folder.locked():
        pass


def test_a_wish_for_a_strangers_run_goes_through_no_link(hostile):
    with pytest.raises((RunError, OSError)):
        request(hostile.path, "stop")


def test_the_lock_of_a_strangers_run_empties_no_file(tmp_path, precious):
    folder = RunFolder.create(Plan(), tmp_path / "runs")
    (folder.path / "run.lock").symlink_to(precious)
    assert folder.is_locked in (True, False)
    with pytest.raises(RunError), folder.locked():
        pass


# --- permissions ---


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_a_run_is_written_with_the_users_own_permissions(tmp_path, umask, file, folder):
    before = os.umask(umask)
    try:
        made = RunFolder.create(Plan(), tmp_path / "runs")
        made.append(STARTED)
        made.close()
        with made.locked():
            request(made.path, "pause")
    finally:
        os.umask(before)
    assert {path.name for path in made.path.iterdir()} >= {"plan.json", "events.jsonl", "run.lock", "wishes.jsonl"}
    _has_modes(tmp_path / "runs", file, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "file", "folder"), [(0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_a_whole_run_is_written_with_the_users_own_permissions(saved, tmp_path, umask, file, folder):
    import tiny

    from workbench import run

    plan = Plan().change(backbone=str(saved), max_steps=2, evaluate_every=1, checkpoint_every=1)
    before = os.umask(umask)
    try:
        list(run(plan, table=tiny.frame(), runs=tmp_path / "runs"))
    finally:
        os.umask(before)
    assert list((tmp_path / "runs").rglob("*.safetensors"))
    _has_modes(tmp_path / "runs", file, folder)


def _has_modes(root, file, folder):
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert {path for path, mode in modes.items() if mode != (folder if path.is_dir() else file)} == set()


# --- what is never loaded ---


@pytest.mark.slow
def test_nothing_in_a_light_look_at_a_strangers_run_imports_what_could_run_code(hostile):
    code = (
        "import sys\nfrom workbench.runs.disk import run_list\n"
        f"run_list.summaries({str(hostile.path.parent)!r})\n"
        "print({'pickle', 'torch', 'transformers', 'cloudpickle'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
