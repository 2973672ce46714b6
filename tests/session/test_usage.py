import pytest

from workbench.session.usage import asking, loading

LOGGED = "from transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained(folder)"


def test_the_code_of_a_log_is_completed_with_its_tokenizer_and_folder():
    assert loading(LOGGED, "language-modeling", "it's").splitlines() == [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        'folder = "it\'s"',
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]
    ours = LOGGED.replace("from transformers import", "from workbench.models.stock import")
    assert "from transformers import AutoImageProcessor" in loading(ours, "image-classification", "here")
    assert loading(LOGGED, "of a stranger", "here").endswith("model = AutoModelForCausalLM.from_pretrained(folder)")


@pytest.mark.parametrize("logged", ["", "hacked()", f"{LOGGED}\nhacked()", LOGGED.replace("folder", "hacked()")])
def test_other_code_in_a_log_is_not_shown(logged):
    assert loading(logged, "language-modeling", "here") is None


def test_a_text_is_cut_where_the_run_cut_it():
    assert "max_length=64" in asking("text-classification", 64)
    assert asking("of a stranger", 64) == ""
