"""A results file as lm-eval writes it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

__all__ = ["write"]

# Cut from a file that lm-eval 0.4.13 wrote (`lm_eval --tasks fabula_far --output_path out`).
SAMPLE: dict[str, Any] = {
    "results": {
        "fabula_far": {
            "name": "fabula_far",
            "alias": "fabula_far",
            "sample_len": 60,
            "acc,none": 0.85,
            "acc_stderr,none": 0.0464,
            "acc_norm,none": 0.9,
            "acc_norm_stderr,none": "N/A",
        }
    },
    "group_subtasks": {},
    "configs": {
        "fabula_far": {
            "task": "fabula_far",
            "dataset_path": "json",
            "output_type": "multiple_choice",
            "num_fewshot": 0,
            "metadata": {"version": 1.0, "pretrained": "/home/me/base", "dtype": "float32"},
        }
    },
    "versions": {"fabula_far": 1.0},
    "n-shot": {"fabula_far": 0},
    "higher_is_better": {"fabula_far": {"acc": True, "acc_norm": True}},
    "n-samples": {"fabula_far": {"original": 60, "effective": 60}},
    "config": {"model": "hf", "model_args": {"pretrained": "/home/me/base"}, "limit": None},
    "model_name": "/home/me/base",
    "lm_eval_version": "0.4.13",
    "chat_template_sha": None,
}


def write(path: Path, **changed: Any) -> Path:
    """The sample with some of it changed; names with a comma are metrics."""
    content = deepcopy(SAMPLE)
    metrics = content["results"]["fabula_far"]
    metrics |= {key: changed.pop(key) for key in list(changed) if "," in key}
    content |= changed
    path.write_text(json.dumps(content))
    return path
