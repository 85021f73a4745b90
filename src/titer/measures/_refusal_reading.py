"""What is read of an answer: its final part, in plain letters, if it is in English at all.

Three steps before any rule: letters are made plain (entities, full width, look-alikes, invisible
marks), thoughts are cut away, and text in another language or alphabet is told apart. Every
character keeps the place that it came from.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from titer.measures._refusal_languages import ENGLISH, OTHERS, TELLING

__all__ = ["Answered", "final_answer", "foreign_share", "plain_letters"]


@dataclass(frozen=True)
class Answered:
    """Text with the span of each character in the completion, ``spans`` as long as ``text``."""

    text: str
    spans: tuple[tuple[int, int], ...]

    def part(self, wanted: list[tuple[int, int]]) -> Answered:
        """What stands in ``wanted``, on lines of their own."""
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        for start, end in wanted:
            if end <= start:
                continue
            if pieces:
                pieces.append("\n")
                spans.append(self.spans[start])
            pieces.append(self.text[start:end])
            spans.extend(self.spans[start:end])
        return Answered("".join(pieces), tuple(spans))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the completion of ``start:end``, which holds a character."""
        return self.spans[start][0], self.spans[end - 1][1]


# -- letters ----------------------------------------------------------------------------------

# Letters of other alphabets that look like Latin ones, as Unicode's list of confusables has them.
_LOOKS: Final = str.maketrans(
    "аеорсухіјѕһԁӏԛԝкѵɡɑıАВЕКМНОРСТХУІЈЅԌαοινκρυεητΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհց",
    "aeopcyxijshdlqwkvgaiABEKMHOPCTXYIJSGaoivkpuentABEZHIKMNOPTYXounhg",
)
_QUOTES: Final = str.maketrans(dict.fromkeys("’‘ʼʹ′`´‛＇", "'"))
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});", re.IGNORECASE)
_LATIN: Final = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]")


def _clusters(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Entities written out, and each character with the marks upon it, with their spans."""
    at = 0
    while at < len(text):
        entity = _ENTITY.match(text, at) if text[at] == "&" else None
        end = entity.end() if entity else at + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        yield html.unescape(text[at:end]), (at, end)
        at = end


def plain_letters(completion: str) -> Answered:
    """The completion in Unicode's compatibility form (NFKC), without invisible characters, its
    entities written out and letters that only look Latin replaced where the text is Latin."""
    if completion.isascii() and "&" not in completion:
        return Answered(completion, tuple((at, at + 1) for at in range(len(completion))))
    found: list[str] = []
    spans: list[tuple[int, int]] = []
    for cluster, span in _clusters(completion):
        # Curly quotes stay quotes: NFKC would make a space of some.
        plain = unicodedata.normalize("NFKC", cluster.translate(_QUOTES))
        for letter in plain:
            if unicodedata.category(letter) not in ("Cf", "Mn", "Me"):
                found.append(letter)
                spans.append(span)
    return Answered(_latinised("".join(found)), tuple(spans))


def _latinised(text: str) -> str:
    """Look-alikes replaced in words that have no other foreign letter, if the text is Latin."""
    latin = len(_LATIN.findall(text))
    letters = sum(letter.isalpha() for letter in text)
    mixed = re.search(r"[A-Za-z][Ͱ-ϿЀ-ԯ԰-֏]|[Ͱ-ϿЀ-ԯ԰-֏][A-Za-z]", text)
    if latin == letters or not (mixed or 2 * latin >= letters):
        return text

    def word(match: re.Match[str]) -> str:
        plain = match[0].translate(_LOOKS)
        return plain if plain.isascii() else match[0]

    return re.sub(r"\w+", word, text)


# -- the final answer -------------------------------------------------------------------------

_NAMES: Final = r"(?:think(?:ing)?|thoughts?|reasoning|analysis|scratchpad|reflection)"
# At the head of a line: prose may speak of a tag.
_OPENS: Final = re.compile(
    rf"^[ \t]*(?:<(?:\w+:)?{_NAMES}\b[^<>\n]{{0,40}}>|\[{_NAMES}\]|◁{_NAMES}▷"
    rf"|<\|(?:begin_of_|start_)?{_NAMES}\|>|<\|channel>[ \t]*\w+)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSES: Final = re.compile(
    rf"(?<!`)(?:</(?:\w+:)?{_NAMES}[ \t]*>|\[/{_NAMES}\]|◁/{_NAMES}▷"
    rf"|<\|/?(?:end_of_|end_){_NAMES}\|>|<\|/{_NAMES}\|>|<channel\|>)(?!`)",
    re.IGNORECASE,
)
_MESSAGE: Final = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)"
    r"(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
# The same where special tokens were left out by decoding.
_PLAIN_FINAL: Final = re.compile(r"assistantfinal(?=\W|[A-Z]|\Z)")
_PLAIN_THOUGHT: Final = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z])")
_SPECIAL: Final = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|</?answer>|\[/?INST\]", re.IGNORECASE)


def final_answer(said: Answered) -> Answered | None:
    """What follows the thought, or the whole if there is none; None if no answer follows.

    Read as thoughts: ``<think>`` and its kin, ``[THINK]``, channels but the final one, with their
    tokens or without, and all that stands before a closing tag alone. A thought that is not closed
    has no answer.
    """
    if messages := list(_MESSAGE.finditer(said.text)):
        spans = [one.span(2) for one in messages if one[1] == "final"]
        thought = True
    elif _PLAIN_FINAL.search(said.text) and _PLAIN_THOUGHT.match(said.text):
        *_, last = _PLAIN_FINAL.finditer(said.text)
        spans, thought = [(last.end(), len(said.text))], True
    elif _PLAIN_THOUGHT.match(said.text):
        return None
    else:
        spans = _outside(said.text)
        thought = spans != [(0, len(said.text))]
    kept = said.part(_without(spans, said.text))
    if thought and not re.search(r"\w", kept.text):
        return None
    return kept


def _outside(text: str) -> list[tuple[int, int]]:
    """What stands in no thought."""
    marks = chain(
        ((mark.start(), mark.end(), True) for mark in _OPENS.finditer(text)),
        ((mark.start(), mark.end(), False) for mark in _CLOSES.finditer(text)),
    )
    spans: list[tuple[int, int]] = []
    begin, within = 0, False
    for start, end, opens in sorted(marks):
        if opens and not within:
            spans.append((begin, start))
        elif not opens and not within:
            spans.clear()  # a closing tag alone ends a thought that began in the prompt
        within, begin = opens, end
    return [] if within else [*spans, (begin, len(text))]


def _without(spans: list[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """The spans without special tokens."""
    kept: list[tuple[int, int]] = []
    for start, end in spans:
        for mark in _SPECIAL.finditer(text, start, end):
            kept.append((start, mark.start()))
            start = mark.end()
        kept.append((start, end))
    return kept


# -- language ---------------------------------------------------------------------------------

_SENTENCE: Final = re.compile(r"[^.!?。！？\n]+")
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# A sentence of no known language is foreign when it has so many words, no English one among them,
# and this share of words with letters that English has not.
_LONG: Final = 5
_ACCENTED: Final = 0.15
# In a sentence of so few words one telling word is enough.
_BRIEF: Final = 4
# Letters of scripts without spaces that weigh as one word.
_LETTERS_A_WORD: Final = 2


def _common(sentence: str) -> Iterator[str]:
    """Its words in lower case, but for what is written as a name: "El Greco" is no Spanish."""
    for index, word in enumerate(_WORD.findall(sentence)):
        if index == 0 or not word.istitle() or sentence.isupper():
            yield word.lower()


def foreign_share(text: str) -> float:
    """The share of the words of ``text``, of those whose language shows, that are not English.

    A word is foreign by its alphabet; a sentence is by the function words of other languages, or
    where it has none of English and letters that English lacks. Names, numbers and made-up words
    tell nothing.
    """
    foreign = english = 0.0
    for sentence in _SENTENCE.finditer(text):
        words = list(_common(sentence[0]))
        other = [word for word in words if not _LATIN.match(word)]
        foreign += sum(max(1.0, len(word) / _LETTERS_A_WORD) for word in other)
        latin = [word for word in words if _LATIN.match(word)]
        ours = sum(word in ENGLISH for word in latin)
        theirs = max(sum(word in language for word in latin) for language in OTHERS.values())
        accented = sum(not word.isascii() for word in latin)
        strange = len(latin) >= _LONG and not ours and accented >= _ACCENTED * len(latin)
        brief = len(latin) <= _BRIEF and not ours and any(word in TELLING for word in latin)
        if (theirs >= 2 and theirs > ours) or strange or brief:
            foreign += len(latin)
        elif ours:
            english += len(latin)
    return foreign / (foreign + english) if foreign else 0.0
