"""The model that a run saves loads with plain transformers, by the line of code that is shown, in a fresh process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from transformers import AutoImageProcessor

from workbench import Plan, Session
from workbench.models import efficientnet_lite as lite
from workbench.models.stock import as_stock
from workbench.tasks.image_classification import pixels

pytestmark = pytest.mark.slow

PLAN = Plan().change(
    max_steps=2, max_rows=40, batch_size=8, learning_rate=0.05, precision="fp32", save_model="last", max_length=8
)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
FRESH = """
import contextlib, importlib.util, io, json, sys, torch
assert importlib.util.find_spec("workbench") is None  # nothing but transformers
answers = []
for lines in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(lines, names := {})
    with torch.no_grad():
        logits = names["model"](**names["inputs"]).logits.flatten()[:20].tolist()
    answers.append((logits, printed.getvalue().strip()))
print(json.dumps(answers))
"""


def finished(plan, root, **objects):
    return Session(plan, runs=root, **objects).start().wait(120)


def logits(run, inputs):
    with torch.no_grad():
        return run.model("last")(**inputs).logits.flatten()[:20]


def test_the_lines_of_code_answer_in_a_fresh_process_without_the_workbench(tmp_path):
    PHOTO.save(tmp_path / "picture.png")
    runs = []
    for kind, task in (("bert", "text-classification"), ("gpt2", "language-modeling")):
        given = tiny.backbone(kind, task=task)
        objects = {"table": tiny.frame(), "model": given.model, "preprocessor": given.preprocessor}
        runs.append(finished(PLAN.change(task=task), tmp_path, **objects))
    vision = PLAN.change(backbone="efficientnet-lite0", source="fashion-mnist", image_size=36, trainable="last 1")
    runs.append(finished(vision, tmp_path))
    asked = [run.use_lines for run in runs]
    assert "import AutoModelForImageClassification, AutoImageProcessor" in asked[-1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -S leaves out the .pth file of an editable installation
    paths = [path for path in sys.path if path.endswith("site-packages")]
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {paths}\n{FRESH}", json.dumps(asked)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    inputs = [run.as_backbone("last").preprocessor("a text", return_tensors="pt") for run in runs[:2]]
    inputs.append({"pixel_values": pixels([PHOTO], runs[-1].as_backbone("last").preprocessor, 36)})
    answers = json.loads(done.stdout)
    for run, given, (answer, _) in zip(runs, inputs, answers, strict=True):
        torch.testing.assert_close(torch.tensor(answer), logits(run, given), atol=1e-5, rtol=1e-5)
    text, completed, picture = [printed for _, printed in answers]
    assert text == runs[0].predict("a text", which="last").label[0]
    assert completed.endswith(runs[1].predict("a text", which="last").completion[0])
    assert picture == runs[2].predict(PHOTO, which="last").label[0]


def test_the_saved_image_processor_makes_the_images_of_the_run(tmp_path):
    plan = PLAN.change(backbone="efficientnet-lite0", source="fashion-mnist", image_size=36, trainable="head")
    run = finished(plan, tmp_path)
    given = run._preparation.backbone(run.plan).preprocessor
    saved = AutoImageProcessor.from_pretrained(run.folder / "model", backend="pil")
    assert torch.equal(pixels([PHOTO], saved, None), pixels([PHOTO], given, 36))
    assert given.size["height"] == 224  # that of the pack is unchanged


@pytest.mark.parametrize("side", [28, 32, 36, 96, 100])
def test_an_efficientnet_lite_is_the_same_network_in_the_class_of_transformers(side):
    torch.manual_seed(0)
    stages = [[1, 3, 1, 1, 8], [2, 5, 2, 6, 16], [2, 3, 2, 6, 24]]
    model = lite.EfficientNetLiteForImageClassification(lite.EfficientNetLiteConfig(stages=stages, num_labels=3)).eval()
    for layer in model.modules():  # statistics that a wrong order of the layers would show
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    stock, images = as_stock(model, image_size=side), torch.randn(2, 3, side, side)
    assert type(stock).__module__.startswith("transformers.")
    with torch.no_grad():
        torch.testing.assert_close(stock(images).logits, model(images).logits, atol=1e-5, rtol=1e-5)
    assert as_stock(stock) is stock


def test_an_odd_size_stays_in_our_own_class():
    model = lite.EfficientNetLiteForImageClassification(lite.EfficientNetLiteConfig(num_labels=3))
    assert as_stock(model, image_size=33) is model
