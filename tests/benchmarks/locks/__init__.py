"""Locks for the benchmarks only: the torch stack, a small one, and an older version of one package."""

from __future__ import annotations

from pathlib import Path

#: 69 packages, 3.1 GB: torch, torchvision, transformers, scikit-learn, pandas, einops, as uv locked them.
TORCH = Path(__file__).with_name("torch.txt")
#: 6 packages: requests and click.
SMALL = Path(__file__).with_name("small.txt")
#: One package of the large lock in the version before.
CHANGE = Path(__file__).with_name("changed.txt")


def replaced(lock: str, change: str) -> str:
    """The text of `lock` with one package as `change` has it.

    Args:
        lock: a lock that uv wrote: each package begins at the start of a line, its hashes are indented.
        change: the lines of one package, in the same form.

    Raises:
        ValueError: the lock does not have that package exactly once.
    """
    name = change.partition("==")[0]
    lines: list[str] = []
    found = 0
    inside = False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            inside = line.partition("==")[0] == name
            if inside:
                found += 1
                lines.append(change)
        if not inside:
            lines.append(line)
    if found != 1:
        raise ValueError(f"{name} stands {found} times in the lock")
    return "".join(lines)
