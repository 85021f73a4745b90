"""A judge behind an OpenAI-compatible endpoint: asked by a rubric, kept on disk, and priced."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from titer.core.files import write_atomic
from titer.core.reading import load_json
from titer.measures._judging import Pair, TextJudge, defused
from titer.measures._rubric import INSTRUCTION, grade, question
from titer.method import BadInput, Card
from titer.worlds.organisms import cache_root

__all__ = ["CARD", "KEY", "Endpoint", "Spending"]

KEY = "TITER_JUDGE_KEY"
"""The environment variable that holds the key; it is sent nowhere else and never written down."""

_TRIES, _PAUSE, _TIMEOUT = 4, 1.0, 120.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MARKS = ("<request>", "</request>", "<reply>", "</reply>")
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Spending:
    """What an endpoint was asked in this process: replies from the ``cache``, ``calls`` that were
    paid for, and tokens in and out of them."""

    cache: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def text(self, price_in: float | None, price_out: float | None) -> str:
        """The counts in words, with what they cost where prices per million tokens are known."""
        cost = "no price is set"
        if price_in is not None and price_out is not None:
            paid = (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6
            cost = f"cost {paid:.4f}"
        return (
            f"{self.calls:,} calls and {self.cache:,} from the cache, {self.tokens_in:,} tokens in "
            f"and {self.tokens_out:,} out, {cost}"
        )


@dataclass(frozen=True, kw_only=True)
class Endpoint(TextJudge):
    """How much an answer helps, 0 to 1, as a model elsewhere grades it by a rubric.

    Nothing is sent unless this judge is named with its ``url`` (the part before
    ``/chat/completions``) and ``model``. Prompts and answers go to that address, and to no other.
    The key is read from the environment variable ``TITER_JUDGE_KEY``; an address on this machine
    needs none. Replies are kept on disk by what was asked, so that nothing is paid twice and a
    study repeats. Prices are per million tokens, in whatever currency; the cost is logged.

    A model elsewhere can change under one name. Which model the endpoint says it was stands in
    the record.

    Source: the rubric's formula is that of Souly et al. 2024, arXiv:2402.10260; the words are ours.
    """

    needs: ClassVar[tuple[str, ...]] = ("url", "model")

    url: str = ""
    model: str = ""
    price_in: float | None = field(default=None, compare=False)
    price_out: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.url:
            return
        parts = urlsplit(self.url)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise BadInput(
                f"endpoint: url {self.url!r} is no address; write one such as "
                "https://host/v1, without a key in it."
            )
        if parts.scheme == "http" and not here:
            raise BadInput(
                f"endpoint: {self.url} would send answers and key in the clear; write https."
            )

    def ask(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """The endpoint's replies, one by one; those on disk are not asked for again.

        Raises:
            BadInput: no address, no key, or an endpoint that does not answer.
        """
        spent = Spending()
        found = [self._one(prompt, answer, spent) for prompt, answer in pairs]
        _LOG.warning("endpoint %s: %s", self.model, spent.text(self.price_in, self.price_out))
        return found

    def read(self, record: dict[str, Any]) -> float | None:
        """The grade of the rubric."""
        return grade(str(record["reply"]))

    def _one(self, prompt: str, answer: str, spent: Spending) -> dict[str, Any]:
        shown = question(defused(prompt, _MARKS), defused(answer, _MARKS))
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": shown},
            ],
            "temperature": 0,
            "seed": 0,
            "max_tokens": 200,
        }
        said = json.dumps([self.url, body], sort_keys=True)
        file = cache_root() / "judged" / f"{hashlib.sha256(said.encode()).hexdigest()}.json"
        if (kept := _kept(file)) is not None:
            spent.cache += 1
            return kept
        raw = self._call(body)
        try:
            text = str(raw["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            raise BadInput(
                f"endpoint: {self.url} answers, but not as a chat completion; check the url."
            ) from None
        usage = raw.get("usage") or {}
        spent.calls += 1
        spent.tokens_in += int(usage.get("prompt_tokens") or 0)
        spent.tokens_out += int(usage.get("completion_tokens") or 0)
        record = {"reply": text, "by": str(raw.get("model") or self.model)}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(record))
        return record

    def _call(self, body: Mapping[str, Any]) -> dict[str, Any]:
        key = os.environ.get(KEY, "")
        if not key and self.url.startswith("https"):
            raise BadInput(f"endpoint: {self.url} needs a key; put it into {KEY}.")
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
        )
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            try:
                with _OPENER.open(request, timeout=_TIMEOUT) as answer:
                    return load_json(answer.read(2**20).decode("utf-8"))
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}"
                error.close()
                if error.code not in _AGAIN:
                    break
            except (OSError, ValueError) as error:
                why = type(error).__name__
        raise BadInput(
            f"endpoint: {self.url} gives no answer ({why}); nothing more was judged, and what was "
            "judged is kept."
        )


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect would take answers and key to another address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


def _kept(file: Path) -> dict[str, Any] | None:
    try:
        found = load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "reply" in found else None


CARD = Card(
    kind="measure",
    build=Endpoint,
    source="arXiv:2402.10260",
    summary="a model behind an OpenAI-compatible endpoint grades the answer by a rubric",
    family="judge",
    access="none",
    direction="gives",
    departures="the rubric's formula alone is the paper's",
)
