"""Token sequences laid out as trees, so that what they begin with in common is run once.

A forest of sequences is written down token by token in the order of a walk from each parent to its
children. Token ``j`` then stands on the path to token ``i`` exactly when ``j <= i < end[j]``, where
``end[j]`` is the place at which the tree below ``j`` is left: one comparison is the attention mask.
R rows, N tokens, P tokens of header, S scored tokens, Q questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from titer.core.lm import Encoded

__all__ = ["Block", "Plan", "plan"]

ROW = 64
"""Tokens a row holds before the next is begun: attention is paid for between all of them."""

HEADER = 16
"""Tokens of a common beginning that is worth a pass of its own; a shorter one is shared by the
sequences of a row, which costs next to nothing."""


@dataclass(slots=True)
class Tree:
    """One row: sequences that grow from common beginnings.

    ``places``, ``targets``, ``owners`` say at which token which token is asked for, and for which
    sequence of the caller.
    """

    ids: list[int] = field(default_factory=list[int])
    depths: list[int] = field(default_factory=list[int])
    ends: list[int] = field(default_factory=list[int])
    places: list[int] = field(default_factory=list[int])
    targets: list[int] = field(default_factory=list[int])
    owners: list[int] = field(default_factory=list[int])
    path: list[int] = field(default_factory=list[int])
    last: tuple[int, ...] = ()

    def leave(self, depth: int) -> None:
        """Go back to where the path was ``depth`` tokens long."""
        for place in self.path[depth:]:
            self.ends[place] = len(self.ids)
        del self.path[depth:]

    def grow(self, body: tuple[int, ...], common: int, header: int) -> None:
        """Add a sequence that has its first ``common`` tokens in common with the last one."""
        self.leave(common)
        new = len(body) - common
        self.path += range(len(self.ids), len(self.ids) + new)
        self.ids += body[common:]
        self.depths += range(header + common, header + len(body))
        self.ends += [0] * new
        self.last = body


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that are run together, as tensors on the CPU.

    ``ids``, ``depths``, ``ends``: (R, N), zero where a row is padded. ``scored``: bool (R, N), true
    where logits are needed. ``places``, ``targets``, ``owners``: (Q,), a place counting among the
    scored tokens. ``straight``: every row is one sequence, and plain causal attention will do.
    """

    ids: Tensor
    depths: Tensor
    ends: Tensor
    scored: Tensor
    places: Tensor
    targets: Tensor
    owners: Tensor
    straight: bool

    def mask(self, header: int, like: Tensor) -> Tensor:
        """What may be attended to, additive, (R, 1, N, P + N); padding sees itself.

        It has the type and the device of ``like``. Built anew each time: kept, it would be the
        largest part of a plan.
        """
        rows, width = self.ids.shape
        place, ends = torch.arange(width, device=like.device), self.ends.to(like.device)
        seen = (place[:, None] >= place) & (place[:, None] < ends[:, None, :])
        seen |= torch.eye(width, dtype=torch.bool, device=like.device)
        mask = like.new_zeros(rows, 1, width, header + width)
        mask[:, 0, :, header:].masked_fill_(~seen, torch.finfo(like.dtype).min)
        return mask


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the header that all sequences begin with, then the blocks."""

    header: tuple[int, ...]
    blocks: tuple[Block, ...]


@lru_cache(maxsize=64)
def plan(rows: tuple[Encoded, ...], tokens: int, header: int = HEADER) -> Plan:
    """Lay out sequences for passes of about ``tokens`` tokens.

    The last token of a sequence is asked for and never run. A beginning common to all prompts
    is run apart if it has ``header`` tokens; rows are then as long as it is, so that copying it to
    every row costs less than running the row. Plans are kept, since a study puts the same questions
    to thousands of models; they are to be read only.
    """
    first = _header(rows, header)
    trees = _trees(rows, len(first), max(ROW, len(first)))
    trees.sort(key=lambda tree: len(tree.ids))
    groups: list[list[Tree]] = [[]]
    for tree in trees:
        if groups[-1] and len(tree.ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(tree)
    return Plan(first, tuple(_block(group, len(first)) for group in groups if group))


def _answered(row: Encoded) -> int:
    """The place of the first token that is asked for: nothing predicts a sequence's first token."""
    return max(1, row.prompt)


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    if (shorter := min(len(one), len(two))) and one[:shorter] == two[:shorter]:
        return shorter
    return next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), shorter)


def _header(rows: Sequence[Encoded], least: int) -> tuple[int, ...]:
    """What all prompts begin with, or nothing where that is shorter than ``least``.

    At least one token of each prompt is left, since its answer is predicted from there.
    """
    asked = [row for row in rows if len(row.ids) > _answered(row)]
    if len({row.ids[: row.prompt] for row in asked}) < 2:
        return ()
    low, high = min(row.ids for row in asked), max(row.ids for row in asked)
    common = min(_common(low, high), min(_answered(row) for row in asked) - 1)
    return low[:common] if common >= least else ()


def _trees(rows: Sequence[Encoded], header: int, room: int) -> list[Tree]:
    """Sequences in alphabetical order, as many to a row as it has room for.

    A sequence that has most of itself in common with the one before joins it in a row that is full
    already, up to four times over: to run the beginning again would cost more.
    """
    found: list[Tree] = []
    tree = Tree()
    for index in sorted(range(len(rows)), key=lambda index: rows[index].ids):
        row, start = rows[index], _answered(rows[index])
        if len(row.ids) <= start:
            continue
        body = row.ids[header:-1]
        common = _common(tree.last, body)
        limit = 4 * room if 2 * common >= len(body) else room
        if tree.ids and len(tree.ids) + len(body) - common > limit:
            tree.leave(0)
            tree, common = Tree(), 0
        if not tree.ids:
            found.append(tree)
        tree.grow(body, common, header)
        tree.places += tree.path[start - 1 - header :]
        tree.targets += row.ids[start:]
        tree.owners += [index] * (len(row.ids) - start)
    tree.leave(0)
    return found


def _block(trees: Sequence[Tree], header: int) -> Block:
    width = max(len(tree.ids) for tree in trees)

    def padded(rows: list[list[int]]) -> Tensor:
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    asked = [number * width + place for number, tree in enumerate(trees) for place in tree.places]
    places, which = torch.tensor(asked).unique(return_inverse=True)
    scored = torch.zeros(len(trees) * width, dtype=torch.bool)
    scored[places] = True
    return Block(
        ids=padded([tree.ids for tree in trees]),
        depths=padded([tree.depths for tree in trees]),
        ends=padded([tree.ends for tree in trees]),
        scored=scored.view(len(trees), width),
        places=which,
        targets=torch.tensor([token for tree in trees for token in tree.targets]),
        owners=torch.tensor([owner for tree in trees for owner in tree.owners]),
        straight=not header and all(min(tree.ends) == len(tree.ids) for tree in trees),
    )
