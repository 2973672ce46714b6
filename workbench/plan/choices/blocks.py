"""Names of blocks, as the fields of a plan have them."""

import re

from workbench.errors import PlanError
from workbench.plan import block_words
from workbench.untrusted import shown

BLOCKS = "'head', 'all', 'last 2'"


def check_blocks(name: str, value: str | tuple[str, ...]) -> None:
    """Check that a field names blocks: 'head', 'all', 'last 2' or a list of block names.

    Raises:
        PlanError: It names none of these.
    """
    if isinstance(value, str) and not re.fullmatch(r"head|all|last [1-9]\d{0,3}", value):
        raise PlanError(
            f"{name} is {shown(value)}; expected 'head', 'all', 'last 2' or a list of block names",
            hint=block_words.meant(value),
        )
    if not value:
        raise PlanError(f"{name} is empty; expected at least one block", hint="use 'head', or name a block")
