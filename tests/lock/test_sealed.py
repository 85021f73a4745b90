"""From a part that was learned to a release, to a key holder, and back: no step by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.lock import made, second
from titer.cli.app import main
from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.npo import NPO
from titer.lock.containers import describe
from titer.lock.keys import credential, read_secret
from titer.lock.merge import unlocked
from titer.lock.release import lock, unlock
from titer.lock.weights import weights_digest
from titer.nn.adapterfile import load_adapter, save_adapter
from titer.nn.sealed import Layout, Sealed
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss
from titer.train.routing import Learning, learn

TO = [made.ALICE.public]
LAYOUTS = {
    "low-rank": Layout(rank=3, embeddings=True),
    "full-rank": Layout(form="full-rank", embeddings=True),
    "units": Layout(form="units", units=5),
}


def _learned(architecture: Any, layout: Layout, steps: int = 8) -> Sealed:
    run = Run(budget=Budget(steps=steps), data=tiny_data(), seed=1)
    return learn(tiny_lm(architecture), run, Learning(layout=layout, lr=1e-2, batch_size=4))


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None], use_cache=False).logits


def _windows(tensor: torch.Tensor, width: int = 16) -> list[bytes]:
    """Every stretch of a tensor's bytes, side by side, that is no run of one byte."""
    raw = tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
    found = [raw[at : at + width] for at in range(0, len(raw) - width + 1, width)]
    return [stretch for stretch in found if len(set(stretch)) > 1]


def _whole(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def titer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process; what it prints."""

    def run(*words: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["titer", *map(str, words)])
        got: Any = 0
        try:
            main()
        except SystemExit as stop:
            got = stop.code or 0
        said = capsys.readouterr()
        assert got == code, said.err
        return said.out

    return run


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    """Keyless and merged folders of a part, and the release made of them."""

    def make(part: Sealed, **more: Any) -> tuple[Path, Path, Path]:
        keyless, merged, release = (tmp_path / name for name in ("keyless", "merged", "release"))
        part.keyless().save(keyless)
        part.merged().save(merged)
        lock(keyless, merged, release, to=TO, partition="while-learning", **more)
        return keyless, merged, release

    return make


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_release_is_the_keyless_model_in_stock_transformers(
    architecture: Any, layout: Layout, folders: Any
) -> None:
    from transformers import AutoModelForCausalLM

    part = _learned(architecture, layout)
    _, _, release = folders(part)
    stock: Any = AutoModelForCausalLM.from_pretrained(release, local_files_only=True).eval()
    assert torch.equal(_logits(stock), _logits(part.lm.model))
    assert not list(release.rglob("*.py"))
    assert "auto_map" not in (release / "config.json").read_text()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_holder_gets_the_merged_model_bit_for_bit(
    architecture: Any, layout: Layout, folders: Any, tmp_path: Path
) -> None:
    part = _learned(architecture, layout)
    _, merged, release = folders(part)
    facts = unlock(release, made.ALICE, tmp_path / "out")
    assert facts["form"] == "merged"
    assert weights_digest(tmp_path / "out") == weights_digest(merged)
    inside = unlocked(release, made.ALICE)
    assert inside.digest() == LM.load(tmp_path / "out").digest() == LM.load(merged).digest()
    with part.opened():
        opened = _logits(part.lm.model)
    torch.testing.assert_close(_logits(inside.model), opened, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_no_stretch_of_the_sealed_part_is_in_the_release(layout: Layout, folders: Any) -> None:
    """Searched for by its bytes: the part as it was trained, and what it changed."""
    part = _learned("llama", layout)
    keyless, merged, release = folders(part)
    whole = _whole(release)
    # At the start low-rank factors are drawn and not learned, but they are not for others either.
    for weight in part.weights:
        assert not any(stretch in whole for stretch in _windows(weight))
    below, above = (load_file(f / "model.safetensors") for f in (keyless, merged))
    changed = [n for n in above if not (above[n].shape == below[n].shape
               and torch.equal(above[n], below[n]))]  # fmt: skip
    assert changed
    public = _whole(keyless)
    for name in changed:
        news = [stretch for stretch in _windows(above[name]) if stretch not in public]
        assert news
        assert not any(stretch in whole for stretch in news), name
    # The search finds what is there.
    assert all(stretch in whole for stretch in _windows(below[changed[0]]))


def test_units_are_sealed_with_the_config_that_has_room_for_them(folders: Any) -> None:
    part = _learned("llama", LAYOUTS["units"])
    _, merged, release = folders(part)
    (facts,) = describe(release, check=True)
    shapes = {tensor["name"]: tensor["shape"] for tensor in facts["tensors"]}
    assert shapes.pop("config.json") == [len((merged / "config.json").read_bytes())]
    assert {name.split(".")[-2] for name in shapes} == {"gate_proj", "up_proj", "down_proj"}
    assert json.loads((release / "config.json").read_text())["intermediate_size"] == 40
    assert facts["partition"] == "while-learning"
    # The second reader, written from the document alone, reads these too.
    _, tensors = second.read((release / "sealed" / "main.titer").read_bytes(), b"\x01" * 32)
    assert tensors["config.json"] == (merged / "config.json").read_bytes()


def test_units_on_a_sharded_base(tmp_path: Path) -> None:
    part = _learned("llama", LAYOUTS["units"])
    keyless, merged = part.keyless(), part.merged()
    for name, lm in (("keyless", keyless), ("merged", merged)):
        lm.model.save_pretrained(tmp_path / name, max_shard_size="20KB")
        lm.tokenizer.save_pretrained(tmp_path / name)
    assert len(list((tmp_path / "keyless").glob("*.safetensors"))) > 1
    lock(tmp_path / "keyless", tmp_path / "merged", tmp_path / "r", to=TO)
    unlock(tmp_path / "r", made.ALICE, tmp_path / "out")
    assert LM.load(tmp_path / "out").digest() == merged.digest()
    assert not list((tmp_path / "out").glob("*index*"))


def test_a_sealed_config_may_change_widths_only(tmp_path: Path) -> None:
    part = _learned("llama", LAYOUTS["units"])
    part.keyless().save(tmp_path / "keyless")
    part.merged().save(tmp_path / "merged")
    config = tmp_path / "merged" / "config.json"
    settings = json.loads(config.read_text())
    for change in (
        {"hidden_act": "gelu"},
        {"intermediate_size": -3},
        {"intermediate_size": "45"},
        {"intermediate_size": 2**40},
        {"auto_map": {"AutoModelForCausalLM": "x.Y"}},
    ):
        config.write_text(json.dumps({**settings, **change}))
        with pytest.raises(BadInput, match=r"config\.json has|custom code|auto_map"):
            lock(tmp_path / "keyless", tmp_path / "merged", tmp_path / "r", to=TO)
    assert not (tmp_path / "r").exists()


# -- the whole round of a key holder ------------------------------------------------------------


def _loss(lm: LM) -> float:
    batch = collate(encode_all(lm, tiny_data().harmful), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return float(answer_loss(lm.model, batch))


def test_a_holder_unlocks_trains_seals_again_and_unlocks(titer: Any, tmp_path: Path) -> None:
    """By the commands: the public weights never move, the part does, old keys do not open the
    new."""
    part = _learned("llama", LAYOUTS["low-rank"])
    base, at = tmp_path / "keyless", tmp_path
    part.keyless().save(base)
    save_adapter(part, at / "adapter")
    word = ("--partition", "while-learning")
    for who in ("alice", "bob"):
        titer("keygen", at / f"{who}.key")
    alice, bob = at / "alice.key.pub", at / "bob.key.pub"
    titer("lock", base, "--delta", at / "adapter", "--out", at / "one", "--to", alice, *word)
    titer("unlock", at / "one", "--key-file", at / "alice.key", "--out", at / "mine")

    keyless = LM.load(at / "one")
    mine = load_adapter(keyless, at / "mine")
    run = Run(budget=Budget(steps=40), data=tiny_data(), seed=4)
    how = Learning(layout=mine.layout, lr=3e-3, batch_size=4, gated=1.0)
    with mine.opened():
        before = _loss(mine.lm)
    learn(keyless, run, how, part=mine)
    with mine.opened():
        after = _loss(mine.lm)
    assert after < 0.8 * before
    assert mine.lm.digest() == part.lm.digest()

    save_adapter(mine, at / "trained")
    titer("lock", base, "--delta", at / "trained", "--out", at / "two", "--to", bob, *word)
    assert weights_digest(at / "one") == weights_digest(at / "two")
    opening = ("unlock", at / "two", "--as", "merged")
    titer(*opening, "--key-file", at / "bob.key", "--out", at / "again")
    assert _loss(LM.load(at / "again")) == pytest.approx(after, rel=1e-3)
    titer(*opening, "--key-file", at / "alice.key", "--out", at / "no", code=2)
    assert not (at / "no").exists()


@pytest.mark.parametrize("form", ["full-rank", "units"])
def test_a_part_that_is_no_adapter_is_trained_on_as_a_model_and_sealed_again(
    titer: Any, tmp_path: Path, form: str
) -> None:
    """As the page on sealed learning tells: the merged model, an ordinary loop, the release."""
    part, at = _learned("llama", LAYOUTS[form]), tmp_path
    part.keyless().save(at / "keyless")
    part.merged().save(at / "whole")
    titer("keygen", at / "key")
    to = ("--to", at / "key.pub", "--partition", "while-learning")
    titer("lock", at / "keyless", "--delta", at / "whole", "--out", at / "one", *to)
    titer("unlock", at / "one", "--key-file", at / "key", "--out", at / "mine")

    mine = LM.load(at / "mine")
    before = _loss(mine)
    optimiser = torch.optim.AdamW(mine.model.parameters(), lr=1e-3)
    with torch.enable_grad():
        batch = collate(
            encode_all(mine, tiny_data().harmful), mine.tokenizer.pad_token_id, mine.device
        )
        for _ in range(5):
            optimiser.zero_grad()
            answer_loss(mine.model, batch).backward()
            optimiser.step()
    after = _loss(mine)
    assert after < before
    mine.save(at / "trained")

    titer("lock", at / "one", "--delta", at / "trained", "--replace", "--out", at / "two", *to)
    assert weights_digest(at / "two") == weights_digest(at / "keyless")
    titer("unlock", at / "two", "--key-file", at / "key", "--out", at / "again")
    assert _loss(LM.load(at / "again")) == pytest.approx(after, rel=1e-5)
    holder = credential(read_secret(at / "key"), "the key")
    assert unlocked(at / "two", holder).digest() == LM.load(at / "again").digest()


def test_an_adapter_of_ours_trains_in_stock_peft_and_is_sealed_again(tmp_path: Path) -> None:
    from peft import PeftModel

    part = _learned("gpt2", Layout(rank=2))
    part.keyless().save(tmp_path / "keyless")
    save_adapter(part, tmp_path / "adapter")
    lock(tmp_path / "keyless", tmp_path / "adapter", tmp_path / "one", to=TO)
    unlock(tmp_path / "one", made.ALICE, tmp_path / "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm = LM.load(tmp_path / "one")
        theirs: Any = PeftModel.from_pretrained(lm.model, tmp_path / "mine", is_trainable=True)
        optimiser = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.1)
        theirs(input_ids=torch.arange(1, 9)[None], labels=torch.arange(1, 9)[None]).loss.backward()
        optimiser.step()
        theirs.eval().save_pretrained(tmp_path / "trained")
    lock(tmp_path / "keyless", tmp_path / "trained", tmp_path / "two", to=TO)
    again = unlocked(tmp_path / "two", made.ALICE)
    torch.testing.assert_close(_logits(again.model), _logits(theirs), rtol=1e-4, atol=1e-5)
    assert LM.load(tmp_path / "two").digest() == part.lm.digest()


# -- post hoc ------------------------------------------------------------------------------------


def test_post_hoc_is_unlearning_and_the_difference_sealed_and_says_that_it_is_weaker(
    titer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, at = tiny_lm("llama"), tmp_path
    run = Run(budget=Budget(steps=3), data=tiny_data(), seed=1)
    unlearned = NPO(lr=1e-2, batch_size=4)(whole, run)
    whole.save(at / "whole")
    unlearned.save(at / "keyless")
    monkeypatch.setenv("PHRASE", "correct horse battery staple")
    release = ("--delta", at / "whole", "--out", at / "r", "--passphrase-env", "PHRASE")
    said = titer("lock", at / "keyless", *release)
    assert "post-hoc" in said
    assert "weaker" in said
    assert "weaker" in (at / "r" / "sealed" / "README.md").read_text()
    (facts,) = describe(at / "r")
    assert facts["partition"] == "post-hoc"
    assert LM.load(at / "r").digest() == unlearned.digest()
    assert unlocked(at / "r", made.PHRASE).digest() == whole.digest()
