"""K members on one base in memory: K adapters, or K copies of the weights that train.

The unmodified Hugging Face model is run on K·B rows, those of the first member first; the layers
whose weights train are replaced by stacked ones for as long as the stack lives. Members' weights
are the rows of one flat buffer, so that clipping and stepping are single operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.chance import seeded
from titer.nn.edits import linears
from titer.nn.hooks import blocks
from titer.nn.products import uses
from titer.nn.reach import ENOUGH, reach
from titer.nn.stacked import (
    Adapted,
    AdaptedBlock,
    StackedEmbedding,
    StackedLinear,
    StackedLora,
    StackedNorm,
    is_conv1d,
    is_plain,
)
from titer.nn.weights import Weights, chosen

__all__ = ["CannotStack", "Stack", "stacked"]


class CannotStack(Exception):
    """The model has layers of which K copies cannot be run at once; its members train apart."""


@dataclass(frozen=True)
class _Adapter:
    """Where the factors of one tensor are. ``weight`` is its name in the model, ``layer`` what
    reads it; ``fused`` if that is its whole block."""

    weight: str
    first: int
    second: int
    turned: bool
    layer: nn.Module
    fused: bool = False


def _read_apart(model: nn.Module) -> set[int]:
    """The weights of layers that something else multiplies by: their module is never run."""
    return {
        id(block.get_parameter(name))
        for block, used in zip(blocks(model), uses(model), strict=True)
        for name, use in used.items()
        if use.multiplies and not use.called
    }


class Stack:
    """K members on one base. Made by :func:`stacked`.

    ``lm`` takes batches of K·B rows, member after member. A member that is dropped leaves the
    others as they are; members keep the number they came with.
    """

    def __init__(self, lm: LM, weights: Sequence[Weights]) -> None:
        self.lm, self.weights = lm, list(weights)
        self.members = list(range(len(weights)))
        self.flags: list[bool] = []  # which of the base's weights train when no member is on it
        self._only: int | None = None
        self._shapes: list[tuple[int, tuple[int, ...]]] = []
        self._width = 0
        self._swaps: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        self._adapters: list[_Adapter] = []
        self._targets: list[tuple[nn.Parameter, int]] = []
        self._leaves: list[nn.Parameter] = []
        self._rows: dict[int, nn.Parameter] = {}
        self.scale = torch.ones(len(weights), 1, 1)

    # -- the members' weights -------------------------------------------------------------------

    def row(self, member: int) -> nn.Parameter:
        """All weights of a member as one vector (P,) that an optimiser can step."""
        return self._rows[member]

    def leaves(self) -> list[nn.Parameter]:
        """The tensors that the layers read, (K, ...) each: what a loss depends on."""
        return self._leaves

    def register(self) -> None:
        """List the adapters' factors among the model's parameters, their gradients their own:
        for methods that find what trains by looking through the model."""
        for one in self._adapters:
            home = one.weight.replace(".", "_") + "_" if one.fused else ""
            for name, index in (("lora_A", one.first), ("lora_B", one.second)):
                leaf = self._leaves[index]
                leaf.grad = None
                one.layer.register_parameter(home + name, leaf)

    def gradients(self) -> Tensor:
        """Gradients of the members still here, (K, P), in the order of :attr:`members`."""
        return self.grad[: len(self.members)]

    def drop(self, member: int) -> None:
        """Let a member go: the last one takes its place in the buffer."""
        slot, last = self.members.index(member), len(self.members) - 1
        moved = self.members[last]
        with torch.no_grad():
            for buffer in (self.theta, self.grad, self.scale):
                buffer[slot] = buffer[last]
        self.members[slot] = moved
        self.members.pop()
        del self._rows[member]
        if moved != member:
            self._rows[moved].data = self.theta[slot]
            self._rows[moved].grad = self.grad[slot]
        self._refresh()

    @contextmanager
    def alone(self, member: int) -> Iterator[LM]:
        """Inside, ``lm`` is this member's model and takes batches of any size."""
        before, self._only = self._only, self.members.index(member)
        try:
            yield self.lm
        finally:
            self._only = before

    def parameters(self, member: int) -> int:
        """How many numbers a member trains; padding of a smaller rank does not count."""
        if self.weights[member].which != "lora":
            return self._width
        rank = self.weights[member].rank
        return sum(math.prod(shape) // max(self._rank, 1) * rank for _, shape in self._shapes)

    # -- out again ------------------------------------------------------------------------------

    def export(self, member: int) -> LM:
        """The member as an ordinary model of its own, adapters merged."""
        with self._plain():
            out = self.lm.clone()
            self._write(member, out)
        for weight, flag in zip(out.model.parameters(), self.flags, strict=False):
            weight.requires_grad_(flag)
        return out

    def merge(self, member: int) -> None:
        """Write the member's weights into the base itself."""
        with self._plain():
            self._write(member, self.lm)

    @torch.no_grad()
    def _write(self, member: int, out: LM) -> None:
        slot = self.members.index(member)
        for one in self._adapters:
            weight = out.model.get_parameter(one.weight)
            first, second = self._leaves[one.first][slot], self._leaves[one.second][slot]
            change = second @ first * self.scale[slot, 0, 0]
            weight.add_((change.mT if one.turned else change).to(weight.dtype))
        copies = dict(zip(self.lm.model.parameters(), out.model.parameters(), strict=True))
        for original, index in self._targets:
            copies[original].copy_(self._leaves[index][slot])

    def save_adapter(self, member: int, folder: str) -> None:
        """Write a LoRA member as an ordinary PEFT adapter folder.

        Raises:
            BadInput: the member is no adapter, or has parts that are no layer's own.
        """
        from titer.nn.adapterfile import write_adapter

        lora = self.weights[member]
        if lora.which != "lora":
            raise BadInput(f"{lora.which} fine-tunes have no adapter; export the model instead.")
        if fused := [one.weight for one in self._adapters if one.fused]:
            raise BadInput(
                f"{fused[0]} is adapted inside its block, which an adapter folder has no form for; "
                "export the model instead."
            )
        slot = self.members.index(member)
        leaves, rank = self._leaves, lora.rank
        factors = {
            one.weight.removesuffix(".weight"): (
                leaves[one.first][slot, :rank],
                leaves[one.second][slot, :, :rank],
            )
            for one in self._adapters
        }
        with self._plain():
            write_adapter(self.lm.model, factors, lora.alpha, folder)

    # -- making and unmaking --------------------------------------------------------------------

    def _tensor(self, shape: tuple[int, ...]) -> int:
        """Room for one tensor in every member's row; returns its number."""
        self._shapes.append((self._width, shape))
        self._width += math.prod(shape)
        return len(self._shapes) - 1

    def _read(self, index: int) -> Callable[[], Tensor]:
        def read() -> Tensor:
            leaf, only = self._leaves[index], self._only
            return leaf if only is None else leaf[only : only + 1]

        return read

    def _scales(self) -> Tensor:
        only = self._only
        return self.scale[: len(self.members)] if only is None else self.scale[only : only + 1]

    def build(self) -> None:
        """Plan the layers, lay out the buffer, set the members to where they start."""
        which, modules = self.weights[0].which, self.weights[0].modules
        if any((other.which, other.modules) != (which, modules) for other in self.weights):
            raise BadInput("members of one stack train the same kind of weights.")
        if which == "lora":
            self._plan_lora(modules)
        else:
            self._plan_copies(chosen(self.lm, which, modules))
        first = next(self.lm.model.parameters())
        coarse = which == "lora" and first.dtype in (torch.bfloat16, torch.float16)
        shape = (len(self.weights), self._width)
        self.theta = torch.zeros(
            shape, dtype=torch.float32 if coarse else first.dtype, device=first.device
        )
        self.grad = torch.zeros_like(self.theta)
        self.scale = self.scale.to(self.theta)
        self._refresh()
        self._rows = {}
        for member in self.members:
            row = nn.Parameter(self.theta[member])
            row.grad = self.grad[member]
            self._rows[member] = row
        with torch.no_grad():
            if which == "lora":
                self._draw()
            else:
                for original, index in self._targets:
                    self._leaves[index].copy_(original.expand(self._leaves[index].shape))

    def _refresh(self) -> None:
        """The tensors that layers read, views of the first K rows whose gradients gather there."""
        members = len(self.members)
        self._leaves = []
        for offset, shape in self._shapes:
            end = offset + math.prod(shape)
            leaf = nn.Parameter(self.theta[:members, offset:end].view(members, *shape))
            leaf.grad = self.grad[:members, offset:end].view(members, *shape)
            self._leaves.append(leaf)

    def _plan_lora(self, endings: Sequence[str]) -> None:
        self._rank = max(knobs.rank for knobs in self.weights)
        model = self.lm.model
        head = model.get_output_embeddings()
        apart = _read_apart(model)

        def named(path: str) -> bool:
            return not endings or any(f".{path}".endswith(f".{end}") for end in endings)

        held: list[nn.Parameter] = []
        for path, module in list(model.named_modules()):
            linear = isinstance(module, nn.Linear) or is_conv1d(module)
            if not linear or not named(path) or (module is head and not endings):
                continue
            weight: Any = module.weight
            if id(weight) in apart or not is_plain(module):
                continue
            turned = is_conv1d(module)
            first, second = self._factors(weight, turned)
            layer = StackedLora(module, self._read(first), self._read(second), self._scales)
            self._adapters.append(_Adapter(f"{path}.weight", first, second, turned, layer))
            self._swap(path, layer)
            held.append(weight)
        held += self._plan_blocks({id(weight) for weight in held}, named)
        if not self._adapters:
            wanted = ", ".join(endings) or "all-linear"
            raise BadInput(f"LoRA finds no layer named {wanted} in {self.lm.name}.")
        found = reach(model, held)
        if not endings and found.share < ENOUGH:
            raise BadInput(
                f"LoRA reaches {found.share:.0%} of the weights in the blocks of {self.lm.name}, "
                f"not {', '.join(found.missed)}; train all weights instead."
            )

    def _plan_blocks(self, done: set[int], named: Callable[[str], bool]) -> list[nn.Parameter]:
        """Adapt what no layer can stand in for, block by block; returns the tensors."""
        model = self.lm.model
        names = {id(module): name for name, module in model.named_modules()}
        places = {id(weight): name for name, weight in model.named_parameters()}
        found: list[nn.Parameter] = []
        for index, block in enumerate(blocks(model)):
            adapted: list[Adapted] = []
            plans: list[tuple[str, int, int, bool]] = []
            for linear in linears(model, [index]):
                name = places[id(linear.weight)]
                if id(linear.weight) in done or not named(name.removesuffix(".weight")):
                    continue
                done.add(id(linear.weight))
                first, second = self._factors(linear.weight, linear.turned)
                inside = name.removeprefix(f"{names[id(block)]}.")
                read = (self._read(first), self._read(second))
                adapted.append(Adapted(inside, linear.weight, *read, linear.turned))
                plans.append((name, first, second, linear.turned))
                found.append(linear.weight)
            if adapted:
                if len(self.weights) > 1:
                    raise CannotStack(f"{plans[0][0]} is read inside its block.")
                layer = AdaptedBlock(block, adapted, self._scales)
                self._adapters += [_Adapter(*plan, layer, fused=True) for plan in plans]
                self._swap(names[id(block)], layer)
        return found

    def _factors(self, weight: Tensor, turned: bool) -> tuple[int, int]:
        """Room for the two factors of a tensor's adapter, one pair an expert."""
        *experts, rows, columns = weight.shape
        narrow, wide = (columns, rows) if turned else (rows, columns)
        first = self._tensor((*experts, self._rank, wide))
        return first, self._tensor((*experts, narrow, self._rank))

    def _draw(self) -> None:
        for slot, knobs in enumerate(self.weights):
            self.scale[slot] = knobs.alpha / knobs.rank
            with seeded(knobs.seed, torch.device("cpu")):
                for one in self._adapters:
                    leaf = self._leaves[one.first]
                    *experts, _, wide = leaf.shape[1:]
                    bound = 1.0 / math.sqrt(wide)
                    values = torch.empty(*experts, knobs.rank, wide).uniform_(-bound, bound)
                    leaf[slot][..., : knobs.rank, :] = values.to(leaf)

    def _plan_copies(self, targets: Sequence[nn.Parameter]) -> None:
        wanted = {id(weight) for weight in targets}
        numbers: dict[int, int] = {}

        def own(weight: Any) -> Callable[[], Tensor] | None:
            if weight is None or id(weight) not in wanted:
                return None
            if id(weight) not in numbers:
                numbers[id(weight)] = self._tensor(tuple(weight.shape))
                self._targets.append((weight, numbers[id(weight)]))
            return self._read(numbers[id(weight)])

        for path, module in list(self.lm.model.named_modules()):
            mine = dict(module.named_parameters(recurse=False))
            if not any(id(weight) in wanted for weight in mine.values()):
                continue
            if extra := set(mine) - {"weight", "bias"}:
                raise CannotStack(f"{type(module).__name__} has weights {', '.join(extra)}.")
            weight, bias = own(mine.get("weight")), own(mine.get("bias"))
            if isinstance(module, nn.Linear) or is_conv1d(module):
                if not is_plain(module):
                    raise CannotStack(f"{type(module).__name__} does more than a product.")
                self._swap(path, StackedLinear(module, weight, bias))
            elif type(module).forward is nn.Embedding.forward and weight is not None:
                self._swap(path, StackedEmbedding(module, weight))
            elif "norm" in type(module).__name__.lower():
                self._swap(path, StackedNorm(module, weight, bias))
            else:
                raise CannotStack(f"{type(module).__name__} is no layer that can be stacked.")

    def _swap(self, path: str, layer: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        holder = self.lm.model.get_submodule(parent)
        self._swaps.append((holder, name, holder.get_submodule(name), layer))

    def install(self, stacked_layers: bool) -> None:
        """Put the stacked layers in, or the model's own back."""
        for holder, name, plain, layer in self._swaps:
            setattr(holder, name, layer if stacked_layers else plain)

    @contextmanager
    def _plain(self) -> Iterator[None]:
        self.install(False)
        try:
            yield
        finally:
            self.install(True)


@contextmanager
def stacked(lm: LM, weights: Sequence[Weights]) -> Iterator[Stack]:
    """Put K members on ``lm``, in place; afterwards the model is what it was, to the bit.

    Adapters of half-precision models are kept in float32, as PEFT keeps them.

    Raises:
        BadInput: ``modules`` match nothing, or the members train different kinds of weights.
        CannotStack: full copies of a model with layers of another kind.
    """
    flags = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    stack = Stack(lm, weights)
    stack.build()
    try:
        for weight, _ in flags:
            weight.requires_grad_(False)
        stack.flags = [flag for _, flag in flags]
        stack.install(True)
        yield stack
    finally:
        stack.install(False)
        for weight, flag in flags:
            weight.requires_grad_(flag)
