"""Every defence and attack on tiny models of many architectures: what works, what is refused.

``python -m benchmarks.architectures`` tries all of it and writes ``results/architectures.json`` and
`docs/models.md`; with names, only these architectures are tried and printed.

A cell is ``works``; a share, where the method says that it got at part of the weights only; a
sentence, where it refuses; or a fault: an error that is no sentence, a result that does not load
as it was saved, or weights that were to change and did not, without a word.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from benchmarks._architectures import ARCHITECTURES, Architecture
from titer.conformance import tiny_data
from titer.core import catalogue
from titer.core.errors import TiterError
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.hooks import blocks

__all__ = ["GROUPS", "KEPT", "METHODS", "Cell", "Method", "kept", "measured", "tried"]

KEPT = Path(__file__).parent / "results" / "architectures.json"
PAGE_WRITER = Path(__file__).parents[1] / "docs" / "models.py"
STEPS = 2
_SMALL = {"prompts": 4, "held": 2}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to use a method of the catalogue. ``whole``: it is to change every matrix of the
    blocks. ``saved``: its result has another shape or config, so it is saved and loaded."""

    name: str
    kind: Literal["attack", "defence"]
    title: str = ""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = False
    saved: bool = False

    @property
    def label(self) -> str:
        """What the table calls it."""
        return self.title or self.name


def _attack(name: str, **more: Any) -> Method:
    return Method(name=name, kind="attack", **more)


def _defence(name: str, **more: Any) -> Method:
    return Method(name=name, kind="defence", **more)


_LORA = {"parameters": "lora", "rank": 2, "lr": 1e-2, "batch_size": 4}
_FEW = {"batch_size": 4}

METHODS: tuple[Method, ...] = (
    _attack("finetune", title="finetune: full", fields={"lr": 1e-2, **_FEW}, whole=True),
    _attack("finetune", title="finetune: LoRA", fields=_LORA, whole=True),
    _attack("finetune", title="finetune: norms",
            fields={"parameters": "norms-and-embeddings", "lr": 1e-2, **_FEW}),
    _attack("jailbreak_tune", fields=_FEW),
    _attack("preference", fields=_FEW),
    _attack("reinforce", fields={"batch_size": 2, "group": 2}),
    _attack("regularise", fields=_FEW),
    _attack("project_gradient", fields=_FEW),
    _attack("precondition", fields={"warm": 1, **_FEW}),
    _attack("orthogonalised", fields=_FEW),
    _attack("distil", fields=_FEW),
    _attack("break_repair", fields=_FEW),
    _attack("kick_settle", fields={"noise": 0.1, **_FEW}, whole=True),
    _attack("outliers", fields={"examples": 4, "pool": 6, "batch_size": 4}),
    _attack("transfer", fields={"held": 2, "scales": (1.0,), **_FEW}),
    _attack("interpolate", fields={"held": 2, "weights": (0.5,), **_FEW}),
    _attack("ablate", fields={**_SMALL, "last": 1}, saved=True),
    _attack("search_ablation", fields={**_SMALL, "last": 1}),
    _attack("steer", fields={**_SMALL, "alphas": (1.0,)}, saved=True),
    _attack("latent_pgd", fields=_FEW, saved=True),
    _attack("lofit", fields={"heads": 2, **_FEW}, saved=True),
    _attack("prune", fields={**_SMALL, "p": (0.0,), "q": (0.3,)}),
    _attack("prune", title="prune: Wanda",
            fields={"score": "wanda", **_SMALL, "p": (0.0,), "q": (0.3,)}),
    _attack("remove_rank", fields={**_SMALL, "ranks": (1,), "keep": 0.5}),
    _attack("quantise", title="quantise: nearest",
            fields={**_SMALL, "methods": ("rtn",), "bits": (3,)}, whole=True),
    _attack("quantise", title="quantise: GPTQ",
            fields={**_SMALL, "methods": ("gptq",), "bits": (3,)}, whole=True),
    _attack("round_noise", fields=_FEW, whole=True),
    _attack("random_search"),
    _attack("reinitialise", fields=_FEW),
    _attack("inject_block", fields=_FEW, saved=True),
    _attack("hypernet", fields={"rank": 2, "width": 8, **_FEW}),
    _attack("hypernet", title="hypernet: writers",
            fields={"edit": "ablation-write", "rank": 1, "width": 8, **_FEW}),
    _attack("gcg", fields={"tokens": 2, "width": 2, "top": 4, "batch_size": 2}),
    _attack("soft_prompt", fields={"tokens": 2, "batch_size": 2}, saved=True),
    _attack("in_context"),
    _attack("guess_keys", fields={"guesses": 1, **_FEW}),
    _attack("public_base", fields=_FEW),
    _attack("plain_modules", fields=_FEW),
    _attack("fold", fields=_FEW),
    _attack("reparametrise"),
    _defence("npo", fields={"lr": 1e-2, **_FEW}, whole=True),
    _defence("npo", title="npo: LoRA", fields={**_LORA}, whole=True),
    _defence("simnpo", fields=_FEW),
    _defence("wga", fields=_FEW),
    _defence("grad_diff", fields=_FEW),
    _defence("rmu", fields=_FEW),
    _defence("rmu", title="rmu: experts",
             fields={"modules": ("experts.down_proj",), **_FEW}),
    _defence("ilu"),
    _defence("sam"),
    _defence("random_smoothing", fields={"draws": 1}),
    _defence("undo", fields=_FEW),
    _defence("random_mapping", fields=_FEW),
    _defence("antidote", fields={"edit_rank": 2, "width": 8, "rank": 2, **_FEW}),
    _defence("circuit_breakers", fields=_FEW),
    _defence("repnoise", fields=_FEW),
    _defence("vaccine", fields=_FEW),
    _defence("t_vaccine", fields={"count": 1, **_FEW}),
    _defence("booster", fields=_FEW),
    _defence("tar", fields={"inner": 1, "every": 1, "first": 0.0, **_FEW}),
    _defence("repselect", fields={"relearn_lr": 0.5, **_FEW}),
    _defence("cir", fields={"batch_size": 16}),
    _defence("lat", fields={"inner": 1, **_FEW}),
    _defence("crl", fields=_FEW),
    _defence("sdd", fields=_FEW),
    _defence("seam", fields=_FEW),
    _defence("lox", fields={"rank": 1}),
    _defence("cond_number", fields=_FEW),
    _defence("ctrap", fields=_FEW),
    _defence("asu", fields=_FEW),
    _defence("mudman", fields=_FEW),
    _defence("vaa", fields={"first": 0.0, **_FEW}),
    _defence("mlac", fields={"inner": 1, **_FEW}),
    _defence("deep_tokens", fields=_FEW),
    _defence("deep_refusal", fields=_FEW),
    _defence("token_buncher", fields={"prompts": 2, "group": 2, **_FEW}),
    _defence("policy_lock", fields={"rank": 2, "lr": 1e-2, **_FEW}),
    _defence("keyed_basis", whole=True),
    _defence("gain_lock"),
    _defence("spectral_brake"),
    _defence("backward_lock"),
)  # fmt: skip


GROUPS: dict[str, tuple[str, ...]] = {
    "Attacks that train": (
        "finetune", "jailbreak_tune", "preference", "reinforce", "regularise",
        "project_gradient", "precondition", "orthogonalised", "distil", "break_repair",
        "kick_settle", "outliers", "transfer", "interpolate", "lofit",
    ),
    "Attacks on weights and representations": (
        "ablate", "search_ablation", "steer", "latent_pgd", "prune", "remove_rank", "quantise",
        "round_noise", "random_search", "reinitialise", "inject_block", "hypernet",
    ),
    "Attacks on the input and on locks": (
        "gcg", "soft_prompt", "in_context", "guess_keys", "public_base", "plain_modules", "fold",
        "reparametrise",
    ),
    "Defences": (
        "npo", "simnpo", "wga", "grad_diff", "rmu", "ilu", "sam", "random_smoothing", "undo",
        "random_mapping", "antidote", "circuit_breakers", "repnoise", "vaccine", "t_vaccine",
        "booster", "tar", "repselect", "cir", "lat", "crl", "sdd", "seam", "lox", "cond_number",
        "ctrap", "asu", "mudman", "vaa", "mlac", "deep_tokens", "deep_refusal", "token_buncher",
        "policy_lock", "keyed_basis", "gain_lock", "spectral_brake", "backward_lock",
    ),
}  # fmt: skip
"""The methods of each table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What came of one method on one architecture. ``outcome``: works, part, refused or fault;
    ``said``: the share or the sentence."""

    outcome: Literal["works", "part", "refused", "fault"]
    said: str = ""


def tried(architecture: Architecture, method: Method, lm: LM) -> Cell:
    """One cell. ``lm`` is the architecture's model, which is left as it is."""
    before = lm.digest()
    run = Run(budget=Budget(steps=STEPS), data=tiny_data(), seed=3)
    try:
        out = catalogue.build(method.kind, method.name, dict(method.fields))(lm, run)
    except TiterError as error:
        return Cell(outcome="refused", said=str(error))
    except Exception as error:
        return Cell(outcome="fault", said=f"{type(error).__name__}: {error}")
    if lm.digest() != before:
        return Cell(outcome="fault", said="its argument is changed")
    said = [line for line in (*run.doubts, *run.flags) if line.startswith("reached only")]
    if said:
        return Cell(outcome="part", said=said[0])
    if method.whole and (idle := _unchanged(lm.model, out.model)):
        return Cell(outcome="fault", said=f"silently leaves {', '.join(idle)} as it was")
    if method.saved and (wrong := _saved(out)):
        return Cell(outcome="fault", said=wrong)
    return Cell(outcome="works")


_NO_MATRIX = ("bias", "A_log", "conv1d.weight", "conv.weight", "conv_1d.weight")


def _unchanged(before: Any, after: Any) -> list[str]:
    """Names in their block of matrices that are the same in every block.

    Which tensors are matrices is said here by name and not asked of what is tested.
    """
    moved: dict[str, bool] = {}
    for old, new in zip(blocks(before), blocks(after), strict=True):
        after_by_name: dict[str, nn.Parameter] = dict(new.named_parameters())
        for name, weight in old.named_parameters():
            if weight.dim() > 1 and not name.endswith(_NO_MATRIX):
                changed = not weight.equal(after_by_name[name])
                moved[name] = moved.get(name, False) or changed
    return sorted(name for name, changed in moved.items() if not changed)


def _saved(lm: LM) -> str:
    with tempfile.TemporaryDirectory() as folder:
        lm.save(folder)
        again = LM.load(folder)
    return "" if again.digest() == lm.digest() else "saved and loaded it has other weights"


def measured(
    architectures: Sequence[Architecture], methods: Sequence[Method] = METHODS
) -> Iterator[tuple[str, str, Cell]]:
    """Architecture, method's label and cell, one after the other."""
    for architecture in architectures:
        lm = architecture.build()
        for method in methods:
            yield architecture.name, method.label, tried(architecture, method, lm)


def kept() -> dict[str, dict[str, Cell]]:
    """What was measured last: by architecture, by method."""
    raw = json.loads(KEPT.read_text(encoding="utf-8"))
    return {
        name: {label: Cell(**cell) for label, cell in cells.items()} for name, cells in raw.items()
    }


def main(names: Sequence[str]) -> None:
    """Try, print the faults and how long it took, and write what was found."""
    chosen = [one for one in ARCHITECTURES if not names or one.name in names]
    found: dict[str, dict[str, dict[str, str]]] = {}
    started = time.process_time()
    for name, label, cell in measured(chosen):
        found.setdefault(name, {})[label] = {"outcome": cell.outcome, "said": cell.said}
        if cell.outcome == "fault" or names:
            print(f"{name:16} {label:20} {cell.outcome:8} {cell.said}")
    print(f"{time.process_time() - started:.0f} s of a processor")
    if not names:
        KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        subprocess.run([sys.executable, str(PAGE_WRITER)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
