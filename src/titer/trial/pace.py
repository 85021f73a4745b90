"""How fast a model goes here and what memory it takes: measured in a few passes of each kind."""

from __future__ import annotations

import contextlib
import copy
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from titer.core.lm import LM
from titer.nn.head import hidden_states, splits
from titer.nn.trainable import Parameters, trainable
from titer.train.optimisers import build_optimiser
from titer.trial.toll import KINDS, Kind, Passes, Toll

__all__ = ["Line", "Pace", "measured", "spoken_length"]

_ROWS = (1, 8)
_FEW = 8
"""Tokens a row of which logits are taken, where not all are."""
_SPEAKS = (2, 8)
_SMALL = 5_000_000
"""Below so many weights a pass is so short that the median of several is taken."""

_TRAINS: dict[Kind, Parameters] = {"full": "full", "light": "lora"}


@dataclass(frozen=True, slots=True)
class Line:
    """What passes cost: so much a call, a token, and a token that the head sees."""

    call: float
    token: float
    head: float

    def of(self, passes: Passes) -> float:
        """The cost of these passes."""
        return self.call * passes.calls + self.token * passes.tokens + self.head * passes.heads

    def beyond(self, other: Line) -> Line:
        """What a token and a head cost here beyond what they do there."""
        return Line(0.0, max(0.0, self.token - other.token), max(0.0, self.head - other.head))

    @staticmethod
    def through(costs: Sequence[float], passes: Sequence[Passes]) -> Line:
        """The line through three measurements of one call each; nothing in it is negative."""
        (one, some, all_), (p, q, r) = costs, passes
        head = max(0.0, (all_ - some) / max(1.0, r.heads - q.heads))
        token = max(0.0, (some - one - head * (q.heads - p.heads)) / (q.tokens - p.tokens))
        return Line(max(0.0, one - token * p.tokens - head * p.heads), token, head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A model on this machine: ``seconds`` by kind of pass, and ``peak`` bytes of a process in
    which it does one, the program, the model and all gradients included; ``back`` is what of that
    only the way back needs, and of several passes that wait together only one. ``weights`` are the
    bytes of one copy of it. A trial costs ``once`` seconds beside its passes: a copy, and digests.
    A kind that would not fit in memory is not there."""

    seconds: Mapping[Kind, Line]
    peak: Mapping[Kind, Line]
    back: Mapping[Kind, Line]
    weights: int
    once: float

    def takes(self, toll: Toll) -> float | None:
        """The seconds of some work; None where a kind of pass in it does not fit here."""
        if any(toll.of(kind).calls and kind not in self.seconds for kind in KINDS):
            return None
        return toll.host + sum(line.of(toll.of(kind)) for kind, line in self.seconds.items())

    def needs(self, toll: Toll, beside: int = 0) -> int | None:
        """The bytes of a process that does it with so many more models ``beside``; None where a
        kind of pass in it does not fit here."""
        if any(toll.of(kind).calls and kind not in self.peak for kind in KINDS):
            return None
        at_once = {
            "full": toll.graph, "light": toll.graph, "read": toll.read, "spoken": Passes()
        }  # fmt: skip
        most = max(
            (
                self._holds(kind, at_once[kind])
                for kind in self.peak
                if toll.of(kind).calls or kind == "read"
            ),
            default=0.0,
        )
        return round(most) + (toll.models + beside) * self.weights

    def _holds(self, kind: Kind, passes: Passes) -> float:
        """The peak of a graph of these passes. Activations go as gradients come, so the larger of
        the two counts, and not both."""
        line = self.peak[kind]
        waiting = self._waiting(kind, passes)
        return line.call + waiting - min(self._gradients(kind), waiting)

    def room(self, toll: Toll, memory: int) -> int:
        """How many tokens of a graph fit into so many bytes beside all else that some work holds,
        none below nought."""
        line, kind = self._training(toll)
        fixed = self._waiting(kind, replace(toll.graph, tokens=0.0))
        free = memory - line.call - toll.models * self.weights - fixed
        return max(0, int((free + self._gradients(kind)) / max(1.0, line.token)))

    def least(self, toll: Toll, tokens: int) -> float:
        """The bytes of some work whose graphs hold so many tokens at a time."""
        line, kind = self._training(toll)
        waiting = self._waiting(kind, replace(toll.graph, tokens=tokens))
        shared = min(self._gradients(kind), waiting)
        return line.call + waiting - shared + toll.models * self.weights

    def _waiting(self, kind: Kind, passes: Passes) -> float:
        """The bytes of a graph and of its way back."""
        others = 1 - 1 / max(1.0, passes.calls)
        back = self.back.get(kind, Line(0.0, 0.0, 0.0))
        line = self.peak.get(kind, back)
        token, head = line.token - others * back.token, line.head - others * back.head
        return token * passes.tokens + head * passes.heads

    def _gradients(self, kind: Kind) -> int:
        return self.weights if kind == "full" else 0

    def _training(self, toll: Toll) -> tuple[Line, Kind]:
        kind: Kind = "full" if toll.of("full").calls else "light"
        return self.peak.get(kind, Line(4.0 * self.weights, 0.0, 0.0)), kind


def measured(lm: LM, width: int, *, free: int | None = None) -> Pace:
    """The pace of a model on rows of ``width`` tokens, on as many threads as torch has.

    On one thread of a processor its own seconds are taken and not the clock's, so that others who
    work on the machine do not count. ``free`` are the bytes that there are: a kind of training that
    would need more is left out. The model comes back to the bit.
    """
    seconds: dict[Kind, Line] = {}
    peak: dict[Kind, Line] = {}
    back: dict[Kind, Line] = {}
    weights = sum(weight.numel() * weight.element_size() for weight in lm.model.parameters())
    width = max(_FEW + 1, min(width, lm.context_length()))
    kinds: list[Kind] = ["read"]
    if free is None or 1.2 * weights < free:
        kinds.append("light")
    if free is None or 4.2 * weights < free:
        kinds.append("full")
    laid = [(rows, Passes(1, rows * width, heads)) for rows, heads in _laid(width)]
    for kind in kinds:
        costs: list[float] = []
        peaks: list[float] = []
        forth: list[float] = []
        with _pass(lm, kind, width) as one:
            one(1, _FEW)
            for rows, passes in laid:
                took, at_most = _measured(lm, lambda r=rows, p=passes: one(r, round(p.heads)))
                costs.append(took)
                peaks.append(at_most)
                if kind != "read":
                    half = partial(one, rows, round(passes.heads), back=False)
                    forth.append(_measured(lm, half)[1])
        of = [passes for _, passes in laid]
        seconds[kind], peak[kind] = Line.through(costs, of), Line.through(peaks, of)
        if forth:
            back[kind] = peak[kind].beyond(Line.through(forth, of))
    seconds["spoken"], peak["spoken"] = _speaking(lm, width), peak["read"]
    once, _ = _measured(lm, lambda: (copy.deepcopy(lm.model), lm.digest(), lm.digest()))
    return Pace(seconds=seconds, peak=peak, back=back, weights=weights, once=once)


def spoken_length(lm: LM, prompts: Sequence[str], most: int = 64) -> int:
    """How many tokens the longest of the answers to these prompts has, up to ``most``."""
    said = lm.generate(list(prompts), max_new_tokens=most)
    return max(1, *(len(lm.answer_ids(text, end=True)) for text in said))


def _laid(width: int) -> list[tuple[int, int]]:
    few, many = _ROWS
    return [(few, few * _FEW), (many, many * _FEW), (many, many * width)]


@contextlib.contextmanager
def _pass(lm: LM, kind: Kind, width: int) -> Iterator[Callable[..., None]]:
    """One pass of a kind over so many rows, with logits of so many tokens."""
    model: Any = lm.model
    words = model.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(0)

    def loss(rows: int, heads: int) -> Tensor:
        ids = torch.randint(words, (rows, width), generator=draw).to(lm.device)
        if splits(model):
            hidden = hidden_states(model, {"input_ids": ids})
            logits = model.get_output_embeddings()(hidden.flatten(0, 1)[:heads])
        else:
            logits = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[:heads]
        return cross_entropy(logits.float(), ids.flatten()[:heads])

    if kind == "read":

        def reads(rows: int, heads: int, *, back: bool = True) -> None:
            with torch.no_grad():
                loss(rows, heads)

        yield reads
        return
    with trainable(lm, _TRAINS[kind]) as ready:
        # With a rate of nought AdamW leaves every weight as it is.
        group: Any = {"params": ready.weights, "lr": 0.0, "weight_decay": 0.0}
        optimiser = build_optimiser("adamw", [group])

        def trains(rows: int, heads: int, *, back: bool = True) -> None:
            # Gradients stay where they are, so that the rest of the peak grows with the rows.
            optimiser.zero_grad(set_to_none=False)
            lost = loss(rows, heads)
            if back:
                lost.backward()
                optimiser.step()

        yield trains


def _speaking(lm: LM, width: int) -> Line:
    model: Any = lm.model
    costs: list[float] = []
    for rows in _SPEAKS:
        ids = torch.full((rows, width), int(lm.tokenizer.pad_token_id), device=lm.device)

        def speak(tokens: int, ids: Tensor = ids) -> None:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=lm.tokenizer.pad_token_id,
            )

        short, long = (_measured(lm, lambda n=n: speak(n))[0] for n in (2, 10))
        costs.append(max(0.0, (long - short) / 8))
    slope = max(0.0, (costs[1] - costs[0]) / (_SPEAKS[1] - _SPEAKS[0]))
    return Line(max(0.0, costs[0] - slope * _SPEAKS[0]), slope, 0.0)


def _measured(lm: LM, work: Callable[[], object]) -> tuple[float, float]:
    """The seconds of some work and the most bytes that the process, or the device, held."""
    device = lm.device
    clock = time.process_time if _one_thread(device) else time.perf_counter
    times: list[float] = []
    with _watched(device) as most:
        for _ in range(5 if lm.parameters() < _SMALL else 1):
            started = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - started)
    return statistics.median(times), most()


def _one_thread(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1


@contextlib.contextmanager
def _watched(device: torch.device) -> Iterator[Callable[[], float]]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: float(torch.cuda.max_memory_allocated(device))
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    yield peak_memory


def peak_memory() -> float:
    """The most bytes that this process held, on Linux since they were last forgotten."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most) * (1 if sys.platform == "darwin" else 1024)
