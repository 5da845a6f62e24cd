# SPDX-License-Identifier: GPL-3.0-or-later
"""`./run bench [NAME] [OPTIONS]`: runs one benchmark, or each of them with its own defaults."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench import digests, first_copy, rescue, update

BENCHES: Final[Mapping[str, Callable[[Sequence[str]], None]]] = {
    "digests": digests.main,
    "first-copy": first_copy.main,
    "rescue": rescue.main,
    "update": update.main,
}


def main(arguments: Sequence[str]) -> None:
    """Run what is named first in `arguments` with the rest of them."""
    if arguments and arguments[0] in BENCHES:
        BENCHES[arguments[0]](arguments[1:])
        return
    if arguments:
        sys.exit(f"There is no benchmark {arguments[0]}. There are: {', '.join(BENCHES)}.")
    for bench in BENCHES.values():
        bench([])


if __name__ == "__main__":
    main(sys.argv[1:])
