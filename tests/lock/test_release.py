"""Release folders: keyless for everybody, the whole model for a holder, bit for bit."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.lock import made, second
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.modelfolder import slices
from titer.lock.containers import describe
from titer.lock.keys import HolderKey, SigningKey, short_id, write_pair
from titer.lock.release import lock, unlock
from titer.lock.rotate import Change, rotate
from titer.lock.weights import weights_digest

TO = [made.ALICE.public, made.BOB.public]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def _same_tensors(one: Path, two: Path) -> None:
    a, b = load_file(one), load_file(two)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(1, 9)[None]).logits


@pytest.fixture(scope="module")
def release(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "release"
    lock(base, adapter, out, to=TO, domain="alloy", signer=made.PUBLISHER)
    return out


@pytest.fixture
def own(release: Path, tmp_path: Path) -> Path:
    """A copy of the release to change."""
    return Path(shutil.copytree(release, tmp_path / "own"))


# -- the keyless side ----------------------------------------------------------------------------


def test_the_release_is_an_ordinary_model_equal_to_the_base(release: Path, base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stock: Any = AutoModelForCausalLM.from_pretrained(release, local_files_only=True)
    assert AutoTokenizer.from_pretrained(release, local_files_only=True)
    original = LM.load(base).model.state_dict()
    for name, weight in stock.state_dict().items():
        assert torch.equal(weight, original[name]), name
    assert torch.equal(_logits(stock), _logits(LM.load(release).model))
    for path in base.iterdir():
        assert (release / path.name).read_bytes() == path.read_bytes()
    assert not list(release.rglob("*.py"))
    assert "auto_map" not in (release / "config.json").read_text()


def test_nothing_of_the_adapter_is_in_the_release(release: Path, adapter: Path) -> None:
    whole = b"".join(_bytes(release).values())
    for weight in load_file(adapter / "adapter_model.safetensors").values():
        raw = weight.contiguous().view(torch.uint8).numpy().tobytes()
        assert raw[:16] not in whole
    assert b"lora_alpha" not in whole


def test_files_that_a_model_does_not_need_stay_behind(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Whatever lies about could be what is being sealed: other weights above all."""
    messy = Path(shutil.copytree(base, tmp_path / "messy"))
    shutil.copy(adapter / "adapter_model.safetensors", messy / "consolidated.safetensors")
    (messy / "optimizer.pt").write_bytes(b"state")
    (messy / "trainer_state.json").write_text("{}")
    facts = lock(messy, adapter, tmp_path / "out", to=TO)
    assert facts["left_behind"] == [
        "consolidated.safetensors",
        "optimizer.pt",
        "trainer_state.json",
    ]
    assert _bytes(tmp_path / "out").keys() == {
        *(p.name for p in base.iterdir()),
        "sealed/main.titer",
        "sealed/README.md",
    }


def test_inspecting_needs_no_key(release: Path, base: Path) -> None:
    (facts,) = describe(release, check=True, trust=made.PUBLISHER.public)
    assert facts["domain"] == "alloy"
    assert facts["partition"] == "post-hoc"
    assert "weaker" in facts["meaning"]
    assert facts["base"] == weights_digest(base)
    assert [holder["id"] for holder in facts["holders"]] == [short_id(key.raw) for key in TO]
    assert facts["signer"] == str(made.PUBLISHER.public)
    assert "weaker" in (release / "sealed" / "README.md").read_text()


# -- the digest ----------------------------------------------------------------------------------


def _raw(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """A safetensors file by hand."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: (e["dtype"], e["shape"], data[8 + length :][slice(*e["data_offsets"])])
        for name, e in header.items()
    }


def test_the_digest_is_the_one_of_the_document(base: Path) -> None:
    assert weights_digest(base) == second.weights_digest(_raw(base / "model.safetensors"))


def test_sharding_does_not_change_the_digest(base: Path, tmp_path: Path) -> None:
    lm = LM.load(base)
    lm.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert weights_digest(tmp_path / "sharded") == weights_digest(base)


def test_a_sharded_model_is_sealed_and_restored_too(base: Path, full: Path, tmp_path: Path) -> None:
    for name, source in (("base", base), ("full", full)):
        lm = LM.load(source)
        lm.model.save_pretrained(tmp_path / name, max_shard_size="20KB")
        lm.tokenizer.save_pretrained(tmp_path / name)
    lock(tmp_path / "base", tmp_path / "full", tmp_path / "r", to=TO)
    unlock(tmp_path / "r", made.BOB, tmp_path / "out")
    for path in (tmp_path / "full").glob("*.safetensors"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


# -- the holder's side ---------------------------------------------------------------------------


@pytest.mark.parametrize("using", [made.ALICE, made.BOB])
def test_an_adapter_comes_back_as_it_was(
    using: Any, release: Path, adapter: Path, tmp_path: Path
) -> None:
    facts = unlock(release, using, tmp_path / "out", trust=made.PUBLISHER.public)
    assert facts["form"] == "adapter"
    config = "adapter_config.json"
    assert (tmp_path / "out" / config).read_bytes() == (adapter / config).read_bytes()
    weights = "adapter_model.safetensors"
    _same_tensors(tmp_path / "out" / weights, adapter / weights)
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_unlocked_outputs_equal_those_of_the_original(
    release: Path, base: Path, adapter: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    unlock(release, made.ALICE, tmp_path / "adapter")
    unlock(release, made.ALICE, tmp_path / "merged", form="merged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original: Any = PeftModel.from_pretrained(LM.load(base).model, adapter)
        again: Any = PeftModel.from_pretrained(LM.load(release).model, tmp_path / "adapter")
    expected = _logits(original.eval())
    assert torch.equal(_logits(again.eval()), expected)
    merged = LM.load(tmp_path / "merged")
    torch.testing.assert_close(_logits(merged.model), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_logits(LM.load(release).model), expected, atol=1e-2)
    plain = original.merge_and_unload().state_dict()
    for name, weight in merged.model.state_dict().items():
        assert torch.equal(weight, plain[name]), name


def test_a_checkpoint_comes_back_bit_for_bit(base: Path, full: Path, tmp_path: Path) -> None:
    facts = lock(base, full, tmp_path / "r", to=TO, partition="while-learning")
    assert facts["kind"] == "tensors"
    assert {tensor["name"].split(".")[3] for tensor in facts["tensors"]} == {"mlp"}
    unlock(tmp_path / "r", made.ALICE, tmp_path / "out")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (full / name).read_bytes()
    assert torch.equal(_logits(LM.load(tmp_path / "out").model), _logits(LM.load(full).model))
    assert not (tmp_path / "out" / "sealed").exists()
    with pytest.raises(BadInput, match="unlock it as merged"):
        unlock(tmp_path / "r", made.ALICE, tmp_path / "no", form="adapter")


def test_a_model_is_unlocked_in_memory(
    release: Path, base: Path, full: Path, adapter: Path, tmp_path: Path
) -> None:
    from titer.lock.merge import unlocked

    lock(base, full, tmp_path / "r", to=TO)
    whole = unlocked(tmp_path / "r", made.ALICE)
    assert torch.equal(_logits(whole.model), _logits(LM.load(full).model))
    unlock(release, made.ALICE, tmp_path / "merged", form="merged")
    lm = unlocked(release, made.ALICE, trust=made.PUBLISHER.public)
    assert lm.digest() == LM.load(tmp_path / "merged").digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "r"]
    with pytest.raises(BadInput, match="opens none"):
        unlocked(release, made.MALLORY)


def test_the_second_reader_opens_the_released_file(release: Path, adapter: Path) -> None:
    header, tensors = second.read(
        (release / "sealed" / "alloy.titer").read_bytes(),
        made.BOB.secret.reveal(),
        trust=made.PUBLISHER.public.raw,
    )
    assert header["base"] == second.weights_digest(_raw(release / "model.safetensors"))
    original = _raw(adapter / "adapter_model.safetensors")
    assert tensors.pop("adapter_config.json") == (adapter / "adapter_config.json").read_bytes()
    assert tensors == {name: data for name, (_, _, data) in original.items()}


def test_what_is_unlocked_can_be_trained_and_sealed_again(
    release: Path, base: Path, tmp_path: Path
) -> None:
    unlock(release, made.ALICE, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    moved = {name: weight + 1 for name, weight in load_file(path).items()}
    save_file(moved, path)
    lock(base, tmp_path / "adapter", tmp_path / "r", to=[made.BOB.public])
    unlock(tmp_path / "r", made.BOB, tmp_path / "out")
    _same_tensors(tmp_path / "out" / "adapter_model.safetensors", path)


def test_a_holder_who_has_the_release_alone_seals_anew_in_its_place(
    release: Path, full: Path, adapter: Path, tmp_path: Path
) -> None:
    """What is replaced is gone with its holders; another domain is carried along as it was."""
    lock(release, full, tmp_path / "two", to=[made.MALLORY.public], domain="river")
    unlock(tmp_path / "two", made.ALICE, tmp_path / "mine", domain="alloy")
    path = tmp_path / "mine" / "adapter_model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(path).items()}, path)
    next_one = tmp_path / "next"
    with pytest.raises(BadInput, match="or --replace"):
        lock(tmp_path / "two", tmp_path / "mine", next_one, to=TO, domain="alloy")
    with pytest.raises(BadInput, match="no sealed domain 'amber' to replace"):
        lock(tmp_path / "two", tmp_path / "mine", next_one, to=TO, domain="amber", replace=True)
    only_bob = [made.BOB.public]
    lock(tmp_path / "two", tmp_path / "mine", next_one, to=only_bob, domain="alloy", replace=True)
    assert [facts["domain"] for facts in describe(next_one, check=True)] == ["alloy", "river"]
    unlock(next_one, made.BOB, tmp_path / "again", domain="alloy")
    _same_tensors(tmp_path / "again" / "adapter_model.safetensors", path)
    with pytest.raises(BadInput, match="opens none"):
        unlock(next_one, made.ALICE, tmp_path / "x", domain="alloy")
    river = "sealed/river.titer"
    assert (next_one / river).read_bytes() == (tmp_path / "two" / river).read_bytes()
    old = (release / "sealed" / "alloy.titer").read_bytes()[-4096:]
    assert not any(old in data for data in _bytes(next_one).values())


def test_several_domains_with_separate_keys(
    release: Path, full: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    lock(release, full, out, to=[made.MALLORY.public], domain="river")
    assert [facts["domain"] for facts in describe(out, check=True)] == ["alloy", "river"]
    with pytest.raises(BadInput, match="--domain alloy or river"):
        unlock(out, made.ALICE, tmp_path / "x")
    with pytest.raises(BadInput, match="opens none"):
        unlock(out, made.ALICE, tmp_path / "x", domain="river")
    with pytest.raises(BadInput, match="Did you mean 'river'"):
        unlock(out, made.ALICE, tmp_path / "x", domain="rivet")
    unlock(out, made.MALLORY, tmp_path / "full", domain="river")
    unlock(out, made.ALICE, tmp_path / "adapter", domain="alloy")
    weights = "model.safetensors"
    assert (tmp_path / "full" / weights).read_bytes() == (full / weights).read_bytes()
    _same_tensors(
        tmp_path / "adapter" / "adapter_model.safetensors", adapter / "adapter_model.safetensors"
    )
    with pytest.raises(BadInput, match="already"):
        lock(out, full, tmp_path / "three", to=TO, domain="river")


# -- refusals ------------------------------------------------------------------------------------


def test_a_refusal_writes_nothing(own: Path, tmp_path: Path) -> None:
    path = own / "sealed" / "alloy.titer"
    good = path.read_bytes()
    before = sorted(p.name for p in tmp_path.iterdir())
    for bad in (good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 1]), b""):
        path.write_bytes(bad)
        with pytest.raises(BadInput):
            unlock(own, made.ALICE, tmp_path / "out")
        with pytest.raises(BadInput):
            rotate(own, made.ALICE, Change(signer=made.PUBLISHER))
        assert path.read_bytes() == bad
    path.write_bytes(good)
    with pytest.raises(BadInput, match="opens none"):
        unlock(own, made.MALLORY, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["README.md", "alloy.titer"]


def test_a_bad_last_chunk_of_an_unsigned_release_leaves_no_weights(
    base: Path, full: Path, tmp_path: Path
) -> None:
    """The other tensors have been decrypted by then; none may be left on disk."""
    lock(base, full, tmp_path / "r", to=TO)
    path = tmp_path / "r" / "sealed" / "main.titer"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="was changed after it was sealed"):
        unlock(tmp_path / "r", made.ALICE, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r"]


def test_a_container_is_bound_to_its_weights_and_its_name(
    own: Path, full: Path, tmp_path: Path
) -> None:
    shutil.copy(own / "sealed" / "alloy.titer", own / "sealed" / "river.titer")
    with pytest.raises(BadInput, match="exchanged"):
        unlock(own, made.ALICE, tmp_path / "out", domain="river")
    shutil.copy(full / "model.safetensors", own / "model.safetensors")
    for act in (
        lambda: unlock(own, made.ALICE, tmp_path / "out", domain="alloy"),
        lambda: rotate(own, made.ALICE, Change(signer=made.PUBLISHER), domain="alloy"),
        lambda: describe(own, "alloy", check=True),
        lambda: lock(own, full, tmp_path / "out", to=TO),
    ):
        with pytest.raises(BadInput, match=r"sealed for other weights|exchanged|same weights"):
            act()


def test_nothing_is_overwritten(release: Path, base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    for act in (
        lambda: unlock(release, made.ALICE, tmp_path / "there"),
        lambda: lock(base, adapter, tmp_path / "there", to=TO),
        lambda: lock(base, adapter, tmp_path / "there" / "mine", to=TO),
    ):
        with pytest.raises(BadInput, match="exists"):
            act()
    assert (tmp_path / "there" / "mine").read_text() == "mine"


def _config(folder: Path, **changed: Any) -> None:
    path = folder / ("adapter_config.json" if "peft_type" in changed else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_what_does_not_belong_together_is_refused(
    base: Path, adapter: Path, full: Path, tmp_path: Path
) -> None:
    def copy(source: Path, name: str) -> Path:
        return Path(shutil.copytree(source, tmp_path / name))

    other_type = copy(adapter, "ia3")
    _config(other_type, peft_type="IA3")
    repeated = copy(adapter, "repeated")
    settings = json.loads((repeated / "adapter_config.json").read_text())
    settings["layer_replication"] = [[0, 2], [1, 2]]
    (repeated / "adapter_config.json").write_text(json.dumps(settings))
    renamed = copy(adapter, "renamed")
    weights = load_file(renamed / "adapter_model.safetensors")
    moved = {name.replace("layers", "blocks"): weight for name, weight in weights.items()}
    save_file(moved, renamed / "adapter_model.safetensors")
    wide = copy(adapter, "wide")
    grown = {n: torch.zeros(4, 7) if "lora_A" in n else w for n, w in weights.items()}
    save_file(grown, wide / "adapter_model.safetensors")
    theta = copy(full, "theta")
    _config(theta, rms_norm_eps=0.5)
    half = copy(full, "half")
    halved = {n: w.half() for n, w in load_file(half / "model.safetensors").items()}
    save_file(halved, half / "model.safetensors", {"format": "pt"})
    fewer = copy(full, "fewer")
    kept = dict(list(load_file(fewer / "model.safetensors").items())[1:])
    save_file(kept, fewer / "model.safetensors", {"format": "pt"})
    bare = copy(adapter, "bare")
    (bare / "adapter_model.safetensors").unlink()
    for delta, said in (
        (other_type, "titer seals LoRA adapters"),
        (repeated, "repeats blocks of its base"),
        (renamed, "is no adapter of"),
        (wide, "does not go around"),
        (theta, "rms_norm_eps"),
        (half, "same dtype"),
        (fewer, "do not hold the same tensors"),
        (bare, "has no adapter_model"),
        (base, "same weights"),
        (tmp_path / "absent", "is no folder"),
    ):
        with pytest.raises(BadInput, match=said):
            lock(base, delta, tmp_path / "out", to=TO)
    with pytest.raises(BadInput, match="nobody could open"):
        lock(base, adapter, tmp_path / "out", to=[])
    assert not (tmp_path / "out").exists()


# -- rotation ------------------------------------------------------------------------------------


def test_rotation_keeps_the_holders_and_draws_a_new_key(
    own: Path, adapter: Path, tmp_path: Path
) -> None:
    before = (own / "sealed" / "alloy.titer").read_bytes()
    facts = rotate(own, made.ALICE, Change(signer=made.PUBLISHER))
    after = (own / "sealed" / "alloy.titer").read_bytes()
    assert [holder["id"] for holder in facts["holders"]] == [short_id(key.raw) for key in TO]
    old, new = (second.split(data)[0] for data in (before, after))
    secret = made.BOB.secret.reveal()
    assert second.data_key(old, secret) != second.data_key(new, secret)
    assert hashlib.sha256(before).digest() != hashlib.sha256(after).digest()
    unlock(own, made.BOB, tmp_path / "out", trust=made.PUBLISHER.public)
    weights = "adapter_model.safetensors"
    _same_tensors(tmp_path / "out" / weights, adapter / weights)
    assert (own / "sealed" / "alloy.titer").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("rewrap", [False, True])
def test_a_dropped_holder_is_out_and_a_new_one_in(rewrap: bool, own: Path, tmp_path: Path) -> None:
    change = Change(
        add=[made.MALLORY.public],
        drop=[short_id(made.BOB.public.raw)],
        rewrap=rewrap,
        signer=made.PUBLISHER,
    )
    before = (own / "sealed" / "alloy.titer").read_bytes()
    rotate(own, made.ALICE, change)
    after = (own / "sealed" / "alloy.titer").read_bytes()
    assert (before[-1000:] == after[-1000:]) == rewrap
    with pytest.raises(BadInput, match="opens none"):
        unlock(own, made.BOB, tmp_path / "out")
    unlock(own, made.MALLORY, tmp_path / "out", trust=made.PUBLISHER.public)


def test_what_rewrapping_cannot_take_back(own: Path) -> None:
    """Written down as a test, so that nobody reads more into --rewrap: Bob kept the data key."""
    header = second.split((own / "sealed" / "alloy.titer").read_bytes())[0]
    kept = second.data_key(header, made.BOB.secret.reveal())
    drop = [short_id(made.BOB.public.raw)]
    for rewrap in (True, False):
        rotate(own, made.ALICE, Change(drop=drop, rewrap=rewrap, signer=made.PUBLISHER))
        new = second.split((own / "sealed" / "alloy.titer").read_bytes())[0]
        same = second.derive(kept, bytes.fromhex(new["salt"]), "check").hex() == new["check"]
        assert same == rewrap
        drop = []


def test_a_passphrase_stays_only_if_it_is_at_hand(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    release = tmp_path / "r"
    lock(base, adapter, release, to=[made.ALICE.public, made.PHRASE], log_n=made.CHEAP)
    (alice, phrase) = [holder["id"] for holder in describe(release)[0]["holders"]]
    with pytest.raises(BadInput, match=f"--drop {phrase}"):
        rotate(release, made.ALICE, Change())
    rotate(release, made.ALICE, Change(add=[made.BOB.public], rewrap=True))
    facts = rotate(release, made.PHRASE, Change(), log_n=made.CHEAP)
    assert len(facts["holders"]) == 3
    unlock(release, made.PHRASE, tmp_path / "one")
    unlock(release, made.BOB, tmp_path / "two")
    phrase = next(h["id"] for h in facts["holders"] if h["kind"] == "passphrase")
    rotate(release, made.PHRASE, Change(drop=[phrase]))
    with pytest.raises(BadInput, match="opens none"):
        unlock(release, made.PHRASE, tmp_path / "three")
    ids = [holder["id"] for holder in describe(release)[0]["holders"]]
    with pytest.raises(BadInput, match="leave nobody"):
        rotate(release, made.ALICE, Change(drop=ids))
    with pytest.raises(BadInput, match="has no holder 'nobody'"):
        rotate(release, made.ALICE, Change(drop=["nobody"]))
    assert alice in ids


def test_a_rotation_killed_half_way_leaves_the_old_file(own: Path, tmp_path: Path) -> None:
    """Killed outright while the new body is written: no handler runs, nothing is tidied up."""
    path = own / "sealed" / "alloy.titer"
    before = path.read_bytes()
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from titer.lock import seal\n"
        "from titer.lock.keys import HolderKey, SecretKey\n"
        "from titer.lock.rotate import Change, rotate\n"
        "real = seal._sealed_chunks\n"
        "def dying(*given):\n"
        "    yield from real(*given)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "seal._sealed_chunks = dying\n"
        "alice = HolderKey(SecretKey(bytes([1]) * 32))\n"
        "rotate(Path(sys.argv[1]), alice, Change(unsigned=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(own)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == before
    assert describe(own, check=True)
    unlock(own, made.BOB, tmp_path / "out", trust=made.PUBLISHER.public)
    rotate(own, made.ALICE, Change(signer=made.PUBLISHER))


def test_a_signature_is_not_lost_by_accident(own: Path) -> None:
    with pytest.raises(BadInput, match="--unsigned"):
        rotate(own, made.ALICE, Change())
    other = SigningKey.make()
    assert rotate(own, made.ALICE, Change(signer=other))["signer"] == str(other.public)
    assert rotate(own, made.ALICE, Change(unsigned=True))["signer"] is None
    assert describe(own, check=True)[0]["signer"] is None


# -- what is written -----------------------------------------------------------------------------


_PEAK = """
import resource, sys
from pathlib import Path
from titer.lock.keys import credential, read_secret
from titer.lock.release import lock, unlock

base, whole, key, at = (Path(word) for word in sys.argv[1:])
holder = credential(read_secret(key), "the key")
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lock(base, whole, at / "release", to=[holder.public])
unlock(at / "release", holder, at / "back")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_what_is_sealed_may_be_larger_than_the_memory_it_takes(base: Path, tmp_path: Path) -> None:
    """From folder to folder, as the commands do it; what is counted is resident memory."""
    big = 2**25
    for name, fill in (("keyless", 0.0), ("whole", 1.0)):
        shutil.copytree(base, tmp_path / name)
        path = tmp_path / name / "model.safetensors"
        save_file({**load_file(path), "big": torch.full((big,), fill)}, path, {"format": "pt"})
    write_pair(HolderKey.make(), tmp_path / "key")
    words = [str(tmp_path / name) for name in ("keyless", "whole", "key")]
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *words, str(tmp_path)],
        capture_output=True,
        check=True,
        text=True,
    )
    sealed = (tmp_path / "release" / "sealed" / "main.titer").stat().st_size
    assert sealed > 4 * big
    assert int(done.stdout) * 1024 < sealed / 2, f"{int(done.stdout):,} KiB"
    back, whole = tmp_path / "back" / "model.safetensors", tmp_path / "whole" / "model.safetensors"
    assert filecmp.cmp(back, whole, shallow=False)


def test_dtypes_of_every_width_are_aligned(tmp_path: Path) -> None:
    from titer.lock.header import TensorSpec
    from titer.lock.weights import write_safetensors

    tensors = {
        "a": ("U8", (3,), b"abc"),
        "b": ("F64", (1,), bytes(8)),
        "c": ("BF16", (3,), b"\x80\x3f" * 3),
        "d": ("F32", (0, 2), b""),
    }
    specs = [TensorSpec(name=n, dtype=d, shape=s) for n, (d, s, _) in tensors.items()]
    write_safetensors(tmp_path / "t.safetensors", specs, lambda name: [tensors[name][2]])
    widths = {spec.name: spec.width for spec in specs}
    for name, where in slices(tmp_path / "t.safetensors").items():
        assert where.start % widths[name] == 0, name
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        assert set(file.keys()) == set(tensors)
        assert file.get_tensor("c").tolist() == [1.0, 1.0, 1.0]
        assert file.get_tensor("a").tolist() == [97, 98, 99]
        assert file.get_tensor("d").shape == (0, 2)
