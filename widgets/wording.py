"""Numbers and choices in the words that panels show; nothing here knows widgets."""

from workbench.choices import Plan, Transfer

THOUSAND, MILLION, BILLION = 10**3, 10**6, 10**9


def count(number: int) -> str:
    """Return a count with three digits that matter.

    Examples:
        >>> count(770), count(148_320), count(22_713_216), count(1_235_814_400)
        ('770', '148 k', '22.7 M', '1.24 B')
    """
    for size, suffix in ((BILLION, "B"), (MILLION, "M"), (THOUSAND, "k")):
        if number >= size:
            digits = 0 if number >= 100 * size else 1 if number >= 10 * size else 2
            return f"{number / size:.{digits}f} {suffix}"
    return f"{number}"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun.

    Examples:
        >>> plural(1, "row"), plural(7_412, "row"), plural(2, "class")
        ('1 row', '7,412 rows', '2 classes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def duration(seconds: float) -> str:
    """Return a time span as a person would say it.

    Examples:
        >>> duration(0.4), duration(41), duration(200), duration(3_900)
        ('1 s', '41 s', '3 min 20 s', '1 h 5 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def mode(choice: Transfer) -> str:
    """Return which blocks learn, and how.

    Examples:
        >>> mode(Transfer()), mode(Transfer(trainable="last 2")), mode(Transfer(trainable="all", method="lora"))
        ('head only', 'last 2 blocks', 'LoRA rank 8')
    """
    words = {"head": "head only", "all": "full", "last 1": "last block"}
    if not isinstance(choice.trainable, str):
        where = plural(len(choice.trainable), "chosen block")
    else:
        where = words.get(choice.trainable, f"{choice.trainable} blocks")
    if choice.method == "weights":
        return where
    return f"LoRA rank {choice.lora_rank}" + ("" if choice.trainable == "all" else f", {where}")


def place(path: str) -> str:
    """Return the last part of a path.

    Examples:
        >>> place("/rows/of/film.csv"), place("images/")
        ('film.csv', 'images')
    """
    return path.rstrip("/").rsplit("/", 1)[-1]


def title(plan: Plan) -> str:
    """Return what a run of this plan is about: data, backbone, mode."""
    from workbench.baseline import catalog

    rows = place(plan.data.source).replace(":", ": ")
    backbone = catalog.find(plan.baseline.backbone)
    return " · ".join((rows, backbone.title if backbone else plan.baseline.backbone, mode(plan.transfer)))
