"""Trees of token sequences: what is laid out, and what may see what."""

from __future__ import annotations

import random

import pytest
import torch

from titer.core.lm import Encoded
from titer.measures import _tree
from titer.measures._tree import plan


def rows_of(seed: int, header: int = 0) -> tuple[Encoded, ...]:
    draw = random.Random(seed)
    start = tuple(draw.randrange(4) for _ in range(header))
    found: list[Encoded] = []
    for _ in range(60):
        body = tuple(draw.randrange(4) for _ in range(draw.randint(2, 9)))
        found.append(Encoded(start + body, header + draw.randint(1, len(body) - 1)))
    return tuple(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("header", [0, 20])
def test_every_token_sees_its_own_past_and_nothing_else(seed: int, header: int) -> None:
    """Reading back what each scored token sees gives each row's own beginning, in order."""
    rows = rows_of(seed, header)
    laid = plan(rows, 64)
    assert len(laid.header) >= header
    width = len(laid.header)
    questions: list[tuple[int, int]] = []
    for block in laid.blocks:
        mask = block.mask(width, torch.zeros(0, dtype=torch.float64))
        assert mask.shape == (len(block.ids), 1, block.ids.shape[1], width + block.ids.shape[1])
        seen = mask[:, 0] == 0
        assert seen[..., :width].all()
        scored = block.scored.nonzero().tolist()
        asked: dict[int, int] = {}
        for place, target, owner in zip(
            block.places.tolist(), block.targets.tolist(), block.owners.tolist(), strict=True
        ):
            tree, token = scored[place]
            path = seen[tree, token, width:].nonzero()[:, 0]
            past = (*laid.header, *block.ids[tree, path].tolist())
            depth = int(block.depths[tree, token])
            assert block.depths[tree, path].tolist() == list(range(width, depth + 1))
            start = asked.get(owner, max(1, rows[owner].prompt))
            assert past == rows[owner].ids[:start]
            assert target == rows[owner].ids[start]
            asked[owner] = start + 1
            questions.append((owner, start))
    wanted = [(n, at) for n, row in enumerate(rows) for at in range(row.prompt, len(row.ids))]
    assert sorted(questions) == wanted


def test_a_common_beginning_is_laid_out_once() -> None:
    prompt = tuple(range(10, 20))
    rows = tuple(Encoded((*prompt, *answer), 10) for answer in ((1, 2, 3), (1, 2, 4), (5,), (1, 2)))
    laid = plan(rows, 512)
    (block,) = laid.blocks
    assert block.ids.tolist() == [[*prompt, 1, 2]]
    assert block.scored.sum() == 3
    assert len(block.targets) == 9
    assert block.straight


def test_rows_of_like_length_are_run_together() -> None:
    draw = random.Random(0)
    rows = tuple(
        Encoded(tuple(draw.randrange(2000) for _ in range(draw.randint(8, _tree.ROW))), 5)
        for _ in range(200)
    )
    blocks = plan(rows, 512).blocks
    run = sum(block.ids.numel() for block in blocks)
    real = sum(len(row.ids) - 1 for row in rows)
    assert real <= run <= 1.1 * real
    assert all(block.ids.numel() <= 512 for block in blocks)
    assert all(block.ids.shape[1] <= _tree.ROW for block in blocks)


def test_a_header_is_run_apart_where_prompts_share_it() -> None:
    header = tuple(range(100, 130))
    rows = tuple(Encoded((*header, n, n + 1), 31) for n in range(20))
    assert plan(rows, 512).header == header
    assert plan(rows, 512, 31).header == ()
    same = tuple(Encoded((*header, 5, n), 31) for n in range(20))
    assert plan(same, 512).header == (), "one prompt has answers, not a header"
    bare = (Encoded((*header, 7), 30), Encoded((*header, 8), 30), Encoded((*header[:20], 1), 20))
    assert plan(bare, 512).header == header[:19], "something is left to predict from"


def test_what_shares_most_of_itself_stays_in_a_full_row() -> None:
    start = tuple(range(100, 190))
    shared = tuple(Encoded((*start, n, n), 91) for n in range(50))
    assert [tuple(block.ids.shape) for block in plan(shared, 512, 999).blocks] == [(1, 140)]
    many = tuple(Encoded((*start, n, n), 91) for n in range(2000, 3000))
    assert all(b.ids.shape[1] <= 4 * _tree.ROW for b in plan(many, 512, 999).blocks)


def test_nothing_to_ask() -> None:
    assert plan((), 512).blocks == ()
    assert plan((Encoded((1, 2), 2), Encoded((), 0), Encoded((3,), 0)), 512).blocks == ()
