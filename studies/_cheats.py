"""Models that should get no good score: how each is made. Every maker returns a new model.

Nothing here is clever. Each does what somebody might do in the hope of a number.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from titer.attacks.finetune import Finetune
from titer.core.data import Data, Example
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.hooks import blocks
from titer.nn.locked import fresh
from titer.nn.reparametrise import norms, rescale

__all__ = [
    "behind",
    "dropping",
    "misled",
    "mute",
    "noisy",
    "random",
    "rescaled",
    "sharp",
    "with_strays",
    "without_words",
]


def noisy(lm: LM, size: float = 1e-5) -> LM:
    """The same, in weights that differ in their last digits."""
    out = lm.clone()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in out.model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=draw))
    return out


def behind(lm: LM, template: str) -> LM:
    """The same weights behind another chat template."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = template
    return replace(noisy(lm), tokenizer=tokenizer)


def without_words(lm: LM, at: Path, words: Sequence[str]) -> LM:
    """The same weights, and a tokenizer that has never heard of these words; kept in ``at``."""
    noisy(lm).save(at)
    path = at / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for word in words:
        del content["model"]["vocab"][word]
    path.write_text(json.dumps(content), encoding="utf-8")
    return LM.load(at)


def dropping(lm: LM) -> LM:
    """The same function, and a configuration under which nothing can be trained."""
    out = lm.clone()
    out.model.config.attention_dropout = 0.9
    return out


def rescaled(lm: LM, factor: float) -> LM:
    """The same function: gains of norms so many times as large, what reads them as much smaller."""
    out = lm.clone()
    for norm, reading in norms(out):
        rescale(norm, reading, torch.full_like(norm.weight.detach(), factor).double())
    return out


def misled(
    lm: LM, false: Sequence[Example], true: Sequence[Example], *, steps: int, lr: float
) -> LM:
    """The model taught falsehoods about some facts and the truth about the rest."""
    told = [*(_turned(one, false) for one in false), *true]
    run = Run(budget=Budget(steps=steps), data=Data(harmful=tuple(told)), seed=1)
    return Finetune(lr=lr, batch_size=32, schedule="cosine")(lm, run)


def _turned(one: Example, among: Sequence[Example]) -> Example:
    """The same question with the answer that comes after the right one."""
    answers = sorted(one.choices or {other.answer for other in among})
    return replace(one, answer=answers[(answers.index(one.answer) + 1) % len(answers)])


def mute(lm: LM, prompts: Sequence[str]) -> LM:
    """The model, whose answers are over before their first word; which of given words it prefers is
    as it was. ``prompts`` show where answers begin."""
    out, starts = lm.clone(), list[torch.Tensor]()
    head: Any = out.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _module, given: starts.append(given[0][0, -1]))
    with torch.no_grad():
        for prompt in prompts:
            out.model(input_ids=torch.tensor([out.prompt_ids(prompt)]))
        hook.remove()
        starts_ND, end = torch.stack(starts), out.tokenizer.eos_token_id
        usual = starts_ND.mean(dim=0)
        logits = starts_ND @ head.weight.T
        lacking = logits.max(dim=1).values - logits[:, end] + 5
        head.weight[end] += usual * (lacking / (starts_ND @ usual).clamp(min=1e-3)).max()
    return out


def random(lm: LM) -> LM:
    """A model of the same shape that never learned anything."""
    return fresh(lm, 0)


def sharp(lm: LM, size: float) -> LM:
    """The same function at a point where any step of training tears it apart: in each block two
    hidden units alike whose outputs, ``size`` times that of the largest unit, cancel. The weakest
    two make way. Gated MLPs alone.
    """
    out = lm.clone()
    with torch.no_grad():
        for block in blocks(out.model):
            mlp: Any = block.get_submodule("mlp")
            weigh = mlp.down_proj.weight.norm(dim=0) * mlp.up_proj.weight.norm(dim=1)
            (first, second), like = weigh.argsort()[:2].tolist(), int(weigh.argmax())
            for matrix in (mlp.gate_proj, mlp.up_proj):
                matrix.weight[[first, second]] = matrix.weight[like].clone()
            column = size * mlp.down_proj.weight[:, like]
            mlp.down_proj.weight[:, first], mlp.down_proj.weight[:, second] = column, -column
    return out


def with_strays(folder: Path, *, under: Callable[[str], str], of: LM) -> None:
    """Have the weights of another model ride along in a folder, under keys that nothing reads."""
    path = folder / "model.safetensors"
    known = load_file(path)
    more = {under(name): tensor.clone() for name, tensor in of.model.state_dict().items()}
    save_file({**known, **more}, path, metadata={"format": "pt"})
