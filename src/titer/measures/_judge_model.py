"""Judges that are models: loaded as titer loads models, asked greedily and in batches."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
import transformers

from titer.core.lm import place, quiet
from titer.core.tokenizer import template_of
from titer.core.weightfiles import tensor_entries
from titer.measures._judging import Pair, TextJudge, defused
from titer.method import LM, BadInput
from titer.worlds.hub import fetch, resolve_model

__all__ = ["ModelJudge", "Precision", "Seat", "cut_to", "seated"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_AS_IT_IS = "{{ messages[0]['content'] }}"
"""The template of a judge whose prompt comes whole, with its own special tokens in it."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_LOG = logging.getLogger(__name__)


class Seat(NamedTuple):
    """A judge at work: its model, which takes prompts as they are, and the chat template that it
    came with."""

    lm: LM
    chat: str | None

    @property
    def marks(self) -> tuple[str, ...]:
        """The tokenizer's special tokens, as text."""
        added: Mapping[int, Any] = self.lm.tokenizer.added_tokens_decoder
        return tuple({*self.lm.tokenizer.all_special_tokens} | {
            str(one) for one in added.values() if one.special and len(str(one)) > 1
        })  # fmt: skip


@lru_cache(maxsize=2)
def seated(source: str, adapter: str, dtype: Precision, classifier: bool) -> Seat:
    """A judge by the place of its model, loaded once a process.

    Raises:
        BadInput: it cannot be loaded, or its weights do not fit into the memory that is free.
    """
    folder = Path(source) if Path(source).is_dir() else fetch(resolve_model(source))
    kind, size = _weight(folder, dtype)
    free, where = _free(place())
    told = f"the judge {source} takes {size / 2**30:.2f} GiB in {kind} on {where}"
    if size > free:
        raise BadInput(
            f"{told}, of which {free / 2**30:.2f} are free; give a smaller judge, another --device,"
            " or fewer workers."
        )
    _LOG.warning("%s, beside the model it judges", told)
    lm = LM.load(folder, dtype=kind, name=source, classifier=classifier, template=_AS_IT_IS)
    hub: Any = transformers
    own = hub.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return Seat(_adapted(lm, Path(adapter)) if adapter else lm, template_of(own))


def _weight(folder: Path, dtype: Precision) -> tuple[str, int]:
    """The precision that a judge is loaded in, and the bytes of its weights then."""
    sizes: dict[str, int] = {}
    for entry in tensor_entries(folder).values():
        kind = _STORED.get(entry["dtype"], "float32")
        count = 1
        for side in entry["shape"]:
            count *= side
        sizes[kind] = sizes.get(kind, 0) + count
    usual = max(sizes, key=lambda kind: sizes[kind], default="float32")
    chosen = usual if dtype == "auto" else dtype
    return chosen, sum(sizes.values()) * _BYTES[chosen]


def _free(device: torch.device) -> tuple[int, str]:
    """Bytes that are free on a device, and its name; without a bound where nobody can say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0], str(device)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024, str(device)
    except (OSError, StopIteration, ValueError):
        return 2**62, str(device)


def _adapted(lm: LM, folder: Path) -> LM:
    """A model with an adapter's changes in its weights.

    Raises:
        BadInput: the adapter is not of this model.
    """
    from peft import PeftModel

    try:
        with quiet():
            wrapped: Any = PeftModel.from_pretrained(lm.model, str(folder))
            return LM(wrapped.merge_and_unload(), lm.tokenizer, lm.name)
    except Exception as error:
        raise BadInput(f"the adapter {folder} does not fit {lm.name}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ModelJudge(TextJudge):
    """A judge that is a model.

    ``model`` is a folder, a hub id at a commit, or the name of what lies at one of ``places``,
    which are no part of what the judge is. ``dtype`` is the precision it is loaded in, ``auto``
    that of its files. ``batch_size`` answers are judged at once, which changes no verdict beyond
    rounding. ``longest`` bounds what the judge reads of an answer, in its tokens; the end is cut
    off, as it is where an answer would not fit into the judge's context.
    """

    needs: ClassVar[tuple[str, ...]] = ("model",)
    models: ClassVar[tuple[str, ...]] = ("model",)

    model: str = ""
    dtype: Precision = "auto"
    batch_size: int = 16
    longest: int | None = None
    places: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)

    @abstractmethod
    def prompt(self, seat: Seat, prompt: str, answer: str) -> str:
        """All that the judge reads of a pair, special tokens and all."""

    @abstractmethod
    def reply(self, seat: Seat, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """The judge's reply to each prompt."""

    def marks(self, seat: Seat) -> tuple[str, ...]:
        """What must not stand in a text that is judged."""
        return seat.marks

    def seat(self) -> Seat:
        """The judge, ready to be asked.

        Raises:
            BadInput: there is no such model.
        """
        return seated(self.places.get(self.model, self.model), self._adapter, self.dtype, False)

    @property
    def _adapter(self) -> str:
        return ""

    def answer_tokens(self) -> int:
        """How many tokens the judge speaks."""
        return 1

    @final
    def ask(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """The judge's replies; ``seen`` is how many letters of an answer it read, where not all."""
        seat = self.seat()
        marks = self.marks(seat)
        asked: list[str] = []
        notes: list[dict[str, Any]] = []
        for prompt, answer in pairs:
            question, whole = defused(prompt, marks), defused(answer, marks)
            shown, fits = self._fit(seat, question, whole)
            notes.append({"seen": len(shown)} if len(shown) < len(whole) else {})
            if not fits:
                notes[-1]["reply"] = ""
                continue
            asked.append(self.prompt(seat, question, shown))
        said = iter(self.reply(seat, asked) if asked else ())
        return [note if "reply" in note else {**next(said), **note} for note in notes]

    def _fit(self, seat: Seat, prompt: str, answer: str) -> tuple[str, bool]:
        """As much of an answer as the judge reads, and whether prompt and rules fit at all."""
        tokenizer = seat.lm.tokenizer
        empty = self.prompt(seat, prompt, "")
        around = len(tokenizer(empty, add_special_tokens=False)["input_ids"])
        # Tokens at a seam may fall otherwise than counted apart.
        room = seat.lm.context_length() - self.answer_tokens() - around - 4
        bound = room if self.longest is None else min(room, self.longest)
        return (cut_to(tokenizer, answer, bound), True) if room > 0 else ("", False)


def cut_to(tokenizer: Any, text: str, tokens: int) -> str:
    """The beginning of a text, of at most so many tokens, letter for letter."""
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = read["offset_mapping"]
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]
