"""An adversary that writes its attack in one forward pass.

Simulating a real attacker costs a defence a fine-tune a step. Here a small network writes the
attack, an *edit* of a model, and is trained by gradients through the attacked model. Four choices,
one module each::

    context    what it is told of a batch          hypernet.context
    edit       what it writes, in what budget      hypernet.edits
    apply      how a model runs with an edit       hypernet.apply
    objective  what attacker or defender wants     hypernet.objectives

    adversary = attacker(lm, LowRank(rank=4, budget=0.1), batch, conditioning="sample")
    with adversary.attacking(lm.model, batch):
        loss = cross_entropy(lm.model(**batch.inputs()).logits, batch.labels)
    loss.backward()      # reaches adversary.weights; the model's weights were never written

Source: Sanyal et al. 2025, arXiv:2509.08000 (AntiDote), as a description. The published code gives
its adversary no gradient and no budget; nothing of it is used.
"""

from titer.hypernet.adversary import Adversary, attacker
from titer.hypernet.apply import Patch, applied
from titer.hypernet.edits import Ablation, ActivationEdit, LowRank, SoftPrompt, Steering

__all__ = [
    "Ablation",
    "ActivationEdit",
    "Adversary",
    "LowRank",
    "Patch",
    "SoftPrompt",
    "Steering",
    "applied",
    "attacker",
]
