"""A loaded model with its tokenizer and chat template: the only core file that needs torch."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from titer.core import modelfolder
from titer.core.config import context_length
from titer.core.errors import BadInput
from titer.core.generation import Said, asking, own_generation
from titer.core.loading import one_line, require_as_filed
from titer.core.precision import as_stored, remember
from titer.core.readable import require_readable
from titer.core.tokenizer import FIXED, faithful, rendered, template_of, tokens, turn_end, with_pad
from titer.core.weightfaults import listed
from titer.core.weightfiles import tensor_entries

__all__ = ["LM", "Attention", "Encoded", "Held", "Template", "place", "quiet"]

Template = Literal["native", "plain", "instruction", "question"]
Held = Literal["float32", "bfloat16", "float16", "auto"]
Attention = Literal["sdpa", "eager"]

_WRAPPERS: dict[str, str] = {
    "plain": "{prompt}",
    "instruction": "### Instruction: {prompt} ### Response:",
    "question": "Question: {prompt} Answer:",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a prompt with its answer; the first ``prompt`` of them carry no loss."""

    ids: tuple[int, ...]
    prompt: int


def place(device: str | None = None) -> torch.device:
    """Where weights are put: ``device``, otherwise what TITER_DEVICE says, otherwise the CPU.

    Raises:
        BadInput: there is no such device here.
    """
    asked = device or os.environ.get("TITER_DEVICE") or "cpu"
    try:
        found = torch.device(asked)
    except RuntimeError as error:
        raise BadInput(f"device {asked!r} is unknown; give cpu, cuda, cuda:1 or mps.") from error
    if found.type == "cpu":
        return found
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if here else 0
    if here is None or here.type != found.type or (found.index or 0) >= count:
        there = f"{count} of kind {here.type}" if here else "no accelerator"
        raise BadInput(f"device {asked!r}: torch sees {there} here; give another, or cpu.")
    return found


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Silence the progress bars and load reports of transformers for a while."""
    from transformers.utils import logging as reports

    shown, level = reports.is_progress_bar_enabled(), reports.get_verbosity()
    reports.disable_progress_bar()
    reports.set_verbosity_error()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if shown:
            reports.enable_progress_bar()


def _files_of(source: str, where: Mapping[str, Any]) -> Path:
    """The folder that a model was read from: its own, or that of the hub's cache."""
    if Path(source).is_dir():
        return Path(source)
    import transformers

    hub: Any = transformers
    return Path(hub.utils.hub.cached_file(source, "config.json", **where)).parent


@dataclass(frozen=True)
class LM:
    """A causal language model, its tokenizer, and how to put a prompt to it.

    ``model`` is any Hugging Face causal LM, ``tokenizer`` its tokenizer. The model is put in
    evaluation mode, which only the training loop leaves for a while: a frozen reference with
    dropout would be no reference. Methods that change a model work on :meth:`clone`.
    ``origin`` is the digest of the folder or the hub's commit that the weights are from, empty
    where they are of this process alone.
    """

    model: Any
    tokenizer: Any
    name: str = "model"
    origin: str = ""

    def __post_init__(self) -> None:
        self.model.eval()

    # -- loading and saving ---------------------------------------------------------------------

    @staticmethod
    def load(
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: str = "float32",
        attention: Attention | None = None,
        name: str | None = None,
        device: str | None = None,
        classifier: bool = False,
        template: str | None = None,
    ) -> LM:
        """Load a local Hugging Face folder or a hub id at a revision, onto :func:`place`'s device.

        Never pickle, never remote code. ``dtype`` is the type in which weights are held and
        computed with, ``auto`` that of the files; saving writes them as they came in any case.
        ``attention`` is the kernel, by default what transformers takes. A ``classifier`` has a head
        that scores a whole sequence. ``template`` is put in the place of the tokenizer's chat
        template.

        Raises:
            BadInput: the folder or id cannot be loaded, its weights are not finite, or there is no
                such device.
        """
        import transformers

        hub: Any = transformers
        where_to = place(device)
        folder = Path(source)
        local = folder.exists() or str(source).startswith((".", "/", "~"))
        if local:
            modelfolder.require(folder.expanduser())
            require_readable(folder.expanduser())
            where: dict[str, Any] = {"local_files_only": True}
            source = str(folder.expanduser())
        else:
            where = {"revision": revision}
        with quiet():
            try:
                tokenizer = hub.AutoTokenizer.from_pretrained(
                    source, trust_remote_code=False, **where
                )
                if local:
                    tokenizer = faithful(tokenizer, Path(source))
                head = "SequenceClassification" if classifier else "CausalLM"
                loaded: Any = getattr(hub, f"AutoModelFor{head}").from_pretrained(
                    source,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype="auto" if dtype == "auto" else getattr(torch, dtype),
                    attn_implementation=attention,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # so that they are told, and refused below
                    **where,
                )
            except Exception as error:
                at = f" at revision {revision!r}" if revision else ""
                raise BadInput(
                    f"cannot load model {str(source)!r}{at}: {one_line(error)}"
                ) from error
        if template is not None:
            tokenizer.chat_template = template
        model, report = loaded
        entries = tensor_entries(_files_of(str(source), where))
        require_as_filed(model, report, entries, str(source))
        remember(model, entries, attention or "")
        lm = LM(model.eval().to(where_to), with_pad(tokenizer), name or str(source))
        lm.check()
        return lm

    def check(self) -> None:
        """Raise :class:`BadInput` if a weight is not finite or a token has no embedding row."""
        for key, tensor in self.model.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise BadInput(
                    f"{self.name}: tensor {key!r} holds NaN or infinite weights; "
                    "the model is broken, export it again."
                )
        rows = self.model.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > rows:
            beyond = self.tokenizer.convert_ids_to_tokens(list(range(rows, len(self.tokenizer))))
            raise BadInput(
                f"{self.name}: the tokenizer has {len(self.tokenizer):,} tokens but the embedding "
                f"only {rows:,} rows, so {listed([str(one) for one in beyond])} cannot be read; "
                "use the tokenizer the model was trained with, or model.resize_token_embeddings."
            )
        try:
            one, two = self._two_words()
            blind = self.prompt_ids(one) == self.prompt_ids(two)
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from error
        except Exception as error:
            raise BadInput(
                f"{self.name}: the chat template cannot put a user's prompt ({one_line(error)})."
            ) from error
        if blind:
            raise BadInput(
                f"{self.name}: the chat template or tokenizer gives every prompt the same tokens; "
                "use the one the model was trained with."
            )

    def _two_words(self) -> tuple[str, str]:
        """Two texts that the tokenizer itself tells apart; a small vocabulary knows few words."""
        known: dict[tuple[int, ...], str] = {}
        special = set(self.tokenizer.all_special_ids)
        for token in range(len(self.tokenizer) - 1, -1, -1):
            if token in special or not (text := self.tokenizer.decode([token]).strip()):
                continue
            known.setdefault(
                tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]), text
            )
            if len(known) == 2:
                break
        texts = [*known.values(), "one", "two"]
        return texts[0], texts[1]

    def save(self, folder: str | os.PathLike[str], *, as_held: bool = False) -> None:
        """Write an ordinary Hugging Face folder: safetensors, config, tokenizer, template.

        Weights are written in the precision that the model came in, or as they are held here.
        """
        precision = contextlib.nullcontext() if as_held else as_stored(self.model)
        with quiet(), precision, own_generation(self.model, Path(folder)):
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    # -- identity -------------------------------------------------------------------------------

    def clone(self) -> LM:
        """A deep copy of the weights; tokenizer shared."""
        parts: list[nn.Module] = list(self.model.modules())
        for module in parts:
            for name, value in vars(module).items():
                # Some recurrent layers keep the state of their last pass, which cannot be copied.
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    setattr(module, name, value.detach())
        return LM(copy.deepcopy(self.model), self.tokenizer, self.name)

    def digest(self) -> str:
        """SHA-256 of every tensor of the state, 16 hex digits."""
        total = hashlib.sha256()
        for key, tensor in sorted(self.model.state_dict().items()):
            plain = tensor.detach().cpu().contiguous()
            total.update(f"{key} {plain.dtype} {tuple(plain.shape)}".encode())
            total.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()[:16]

    def identity(self) -> str:
        """What names the model in a trial: its :attr:`origin`, or else its :meth:`digest`."""
        return self.origin or self.digest()

    def template_digest(self) -> str:
        """SHA-256 of the chat template and of what a fixed prompt becomes in it, 16 hex digits;
        ``none`` without one. The clock stands still, see :func:`titer.core.tokenizer.rendered`."""
        template = template_of(self.tokenizer)
        if not template:
            return "none"
        content = f"{template}\0{rendered(self.tokenizer, template, FIXED)}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def parameters(self) -> int:
        """How many weights the model has, shared ones once."""
        return sum(weight.numel() for weight in self.model.parameters())

    def matmul_weights(self) -> list[nn.Parameter]:
        """Weights that take part in matrix products: all but embedding look-ups and norms.

        A head tied to the embedding counts once, as the head.
        """
        head = self.model.get_output_embeddings()
        lookups = {
            id(module.weight)
            for module in self.model.modules()
            if isinstance(module, nn.Embedding)
            and (head is None or module.weight is not head.weight)
        }
        return [
            weight
            for weight in self.model.parameters()
            if weight.dim() >= 2 and id(weight) not in lookups
        ]

    def parameters_in_matmuls(self) -> int:
        """How many numbers :meth:`matmul_weights` hold."""
        return sum(weight.numel() for weight in self.matmul_weights())

    # -- text to tokens and back ----------------------------------------------------------------

    def prompt_ids(self, prompt: str, template: Template = "native") -> list[int]:
        """Token ids of a prompt as the model expects it.

        ``native`` uses the chat template where the tokenizer has one and plain text otherwise.
        """
        if template == "native" and (chat := template_of(self.tokenizer)):
            text = rendered(self.tokenizer, chat, prompt)
            return list(tokens(self.tokenizer, text, special=False))
        text = _WRAPPERS["plain" if template == "native" else template].format(prompt=prompt)
        ids = list(tokens(self.tokenizer, text, special=True))
        eos = self.tokenizer.eos_token_id
        return ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids

    def answer_ids(self, answer: str, *, end: bool, template: Template = "native") -> list[int]:
        """Token ids of an answer, closed if ``end`` by :meth:`turn_end`."""
        chat = template == "native" and self.tokenizer.chat_template
        text = answer if chat or not answer else " " + answer
        ids = list(tokens(self.tokenizer, text, special=False))
        return [*ids, self.turn_end(template)] if end else ids

    def turn_end(self, template: Template = "native") -> int:
        """The token with which an answer ends: the one by which the chat template closes a turn of
        the assistant, otherwise the end of the sequence."""
        chat = template_of(self.tokenizer) if template == "native" else None
        closing = turn_end(self.tokenizer, chat) if chat else None
        return self.tokenizer.eos_token_id if closing is None else closing

    def encode(
        self, prompt: str, answer: str, *, template: Template = "native", limit: int | None = None
    ) -> Encoded:
        """Prompt and answer as training sees them, in at most ``limit`` tokens.

        As where a model is asked, a prompt is cut on the left and keeps half of the room; only an
        answer that is longer than the rest loses its end.
        """
        head = self.prompt_ids(prompt, template)
        tail = self.answer_ids(answer, end=True, template=template)
        if limit is not None and len(head) + len(tail) > limit:
            kept = max(limit - len(tail), min(len(head), limit // 2))
            head = head[len(head) - kept :]
            tail = tail[: limit - kept]
        return Encoded((*head, *tail), len(head))

    def context_length(self) -> int:
        """The longest sequence the model takes, in tokens."""
        return context_length(self.model.config)

    # -- asking ---------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        template: Template = "native",
        batch_size: int = 64,
    ) -> list[str]:
        """The texts of :meth:`speak`, which takes the same."""
        said = self.speak(
            prompts, max_new_tokens=max_new_tokens, template=template, batch_size=batch_size
        )
        return [one.text for one in said]

    def speak(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        template: Template = "native",
        batch_size: int = 64,
    ) -> list[Said]:
        """Greedy answers, one a prompt, decoded without special tokens. Deterministic.

        Answers take at most half of the context, so that a prompt always has room; a prompt that
        is longer still is cut on the left. What the model's own generation config asks for
        (sampling, penalties, forbidden words) is set aside, its end-of-turn tokens are kept.
        """
        rows = [self.prompt_ids(prompt, template) for prompt in prompts]
        longest = self.context_length()
        max_new_tokens = min(max_new_tokens, max(1, longest // 2))
        room = longest - max_new_tokens
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        answers = [Said("", False)] * len(rows)
        ends = self._ends()
        closing = set(ends) & {
            *self.tokenizer.all_special_ids,
            *self.tokenizer.added_tokens_decoder,
        }
        self.model.eval()
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            block = [rows[index][-room:] for index in chosen]
            width = max(len(row) for row in block)
            pad = self.tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in block])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in block])
            with asking(self.model, max_new_tokens, pad=pad, ends=ends) as asked:
                out: Tensor = self.model.generate(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    generation_config=asked,
                )
            new: Any = out[:, width:].cpu()
            told = new.tolist()
            said = [_until(row, closing) for row in told]
            texts = self.tokenizer.batch_decode(said, skip_special_tokens=True)
            for index, row, text in zip(chosen, told, texts, strict=True):
                full = len(row) >= max_new_tokens and not set(row) & set(ends)
                answers[index] = Said(text.strip(), full)
        return answers

    def _ends(self) -> list[int]:
        """Tokens that end an answer: the one that training ends with, the tokenizer's, and those
        that the model was released with."""
        config = getattr(self.model, "generation_config", None)
        own: Any = getattr(config, "eos_token_id", None)
        more = cast(list[int | None], own if isinstance(own, list) else [own])
        ends = [self.turn_end(), self.tokenizer.eos_token_id, *more]
        return sorted({int(token) for token in ends if token is not None and token >= 0})


def _until(ids: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    """The tokens before the first that ends an answer, which decoding skips if special."""
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
