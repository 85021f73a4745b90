"""Whoever does what: every order in which processes may meet at a job, and real ones that are
killed, stopped and woken."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from titer.core.jobs import Ended
from titer.core.records import Status
from titer.run import claims as claiming
from titer.run.claims import Claims, OnDisk, Watch, process
from titer.run.crew import Crew, crew

pytestmark = pytest.mark.exact


# -- a file system of which every operation is a moment --------------------------------------------


class Killed(BaseException):
    """A process is no more."""


class Simulated:
    """A folder that knows to create a file and to rename one. Before each operation the process
    waits for its turn, and may be killed there."""

    def __init__(self, files: dict[str, str], turn: Callable[[], None]) -> None:
        self.files, self._turn, self.begun = files, turn, False

    def create(self, name: str, text: str) -> bool:
        self._turn()
        if name in self.files:
            return False
        self.files[name] = ""  # others may see it before its text
        self.begun = True
        self._turn()
        self.begun, self.files[name] = False, text
        return True

    def write(self, name: str, text: str) -> None:
        self._turn()
        self.files[name] = text

    def read(self, name: str) -> str | None:
        self._turn()
        return self.files.get(name)


class Stage:
    """Processes that take jobs, in an order that a list of choices decides.

    A choice is a number: of the processes that can go on, that one does its next operation; past
    them, that one is killed there.
    """

    def __init__(self, count: int, jobs: Sequence[str], *, kills: int, hasty: bool) -> None:
        self.jobs, self.kills, self.hasty = jobs, kills, hasty
        self.files: dict[str, str] = {}
        self.done: set[str] = set()
        self.ran: Counter[str] = Counter()
        self.doomed: set[int] = set()
        self.dead: set[str] = set()
        self.haste = 0
        self._folders: dict[int, Simulated] = {}
        self._go = [threading.Semaphore(0) for _ in range(count)]
        self._back = threading.Semaphore(0)
        self._alive = set(range(count))
        self._threads = [threading.Thread(target=self._live, args=(i,)) for i in range(count)]

    def play(self, choose: Callable[[int], int]) -> None:
        """Let all end; ``choose`` is given how many choices there are."""
        for thread in self._threads:
            thread.start()
            self._back.acquire()
        while self._alive:
            able = sorted(self._alive)
            killable = able if len(self.dead) + len(self.doomed) < self.kills else []
            killable = killable if len(able) > 1 else []
            picked = choose(len(able) + len(killable))
            who = (able + killable)[picked]
            if picked >= len(able):
                self.doomed.add(who)
            self._go[who].release()
            self._back.acquire()
        for thread in self._threads:
            thread.join()

    def _live(self, who: int) -> None:
        def turn() -> None:
            self._back.release()
            self._go[who].acquire()
            if who in self.doomed:
                raise Killed

        folder = self._folders[who] = Simulated(self.files, turn)
        claims = Claims(folder, f"p{who}")

        def gone(owner: str) -> bool:
            """Dead, or, once, taken for it though it only sleeps. A claim without a text is lost
            when nobody who lives is about to write it."""
            if owner in self.files:
                begun = any(self._folders[one].begun for one in self._alive)
                return not self.files[owner] and not begun
            if owner in self.dead:
                return True
            if self.hasty and self.haste < 1:
                self.haste += 1
                return True
            return False

        try:
            turn()
            left = list(self.jobs)
            while left:
                for job in left:
                    if job not in self.done and claims.take(job, gone):
                        if job not in self.done:
                            self.ran[job] += 1
                            turn()  # the work itself, in the middle of which it may be killed
                            self.done.add(job)
                        claims.release(job)
                left = [job for job in left if job not in self.done]
                if left:
                    turn()
        except Killed:
            self.dead.add(f"p{who}")
            self.doomed.discard(who)
        self._alive.discard(who)
        self._back.release()


def _every(most: int) -> Iterator[Callable[[int], int]]:
    """Every sequence of choices, one after another, by going through the last choice that has an
    untried one left."""
    path: list[list[int]] = []
    for _ in range(most):
        place = 0

        def choose(of: int) -> int:
            nonlocal place
            if place == len(path):
                path.append([0, of])
            picked, known = path[place]
            assert known == of, "the same choices led elsewhere"
            place += 1
            return picked

        yield choose
        del path[place:]
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        path[-1][0] += 1
    raise AssertionError("there are more orders than that")


def _fair(choose: Callable[[int], int], most: int = 60) -> Callable[[int], int]:
    """As ``choose`` says for so many choices, then everyone in turn: nobody waits for ever."""
    count = 0

    def fair(of: int) -> int:
        nonlocal count
        count += 1
        return choose(of) if count <= most else count % of

    return fair


def _check(stage: Stage) -> None:
    assert stage.done == set(stage.jobs), "a job was lost"
    extra = sum(stage.ran.values()) - len(stage.jobs)
    assert extra <= len(stage.dead) + stage.haste, f"work was done twice: {stage.ran}"


def test_two_processes_meet_in_every_order_and_do_a_job_once() -> None:
    orders = 0
    for choose in _every(20_000):
        stage = Stage(2, ["job"], kills=0, hasty=False)
        stage.play(_fair(choose, 12))
        _check(stage)
        orders += 1
    assert orders > 100, "the orders were not tried"


@pytest.mark.slow
def test_one_of_two_is_killed_at_every_moment_of_every_order() -> None:
    for choose in _every(200_000):
        stage = Stage(2, ["job"], kills=1, hasty=False)
        stage.play(_fair(choose, 10))
        _check(stage)


@pytest.mark.parametrize(("kills", "hasty"), [(0, False), (2, False), (0, True), (1, True)])
def test_three_processes_and_two_jobs_in_orders_at_random(kills: int, hasty: bool) -> None:
    rng = random.Random(0)
    for _ in range(150):
        stage = Stage(3, ["one", "two"], kills=kills, hasty=hasty)
        stage.play(_fair(rng.randrange))
        _check(stage)


def test_a_claim_that_is_looked_for_and_then_made_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were a claim no file that only one can create, the orders above would find it."""

    def careless(self: Simulated, name: str, text: str) -> bool:
        self._turn()
        self.files[name] = text
        return True

    monkeypatch.setattr(Simulated, "create", careless)
    with pytest.raises(AssertionError, match="twice"):
        test_two_processes_meet_in_every_order_and_do_a_job_once()


# -- whether a process lives -----------------------------------------------------------------------


def _claims(folder: Path, owner: str = "a") -> Claims:
    return Claims(OnDisk(folder), owner)


def test_a_process_is_gone_when_it_stood_still_for_a_lease_by_the_watchers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = _claims(tmp_path, "theirs"), _claims(tmp_path, "mine")
    monkeypatch.setattr(claiming, "_machine", lambda: "another machine")
    theirs.tell(beat=1, began="2099-01-01")  # its own clock is wrong
    monkeypatch.undo()
    now = [1000.0]
    watch = Watch(mine, 120, lambda: now[0])
    assert theirs.take("job")
    for seconds, beat, gone in [(0, 1, False), (100, 1, False), (100, 2, False), (119, 2, False)]:
        now[0] += seconds
        if beat == 2:
            monkeypatch.setattr(claiming, "_machine", lambda: "another machine")
            theirs.tell(beat=beat)
            monkeypatch.undo()
        assert watch.gone("theirs") is gone
    assert not mine.take("job", watch.gone)
    now[0] += 2
    assert watch.gone("theirs")
    assert mine.take("job", watch.gone)
    theirs.release("job")  # it wakes, and leaves the claim to whom it has gone to
    assert mine.last("job").owner == "mine"


def test_a_dead_process_of_this_machine_is_gone_at_once_and_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from titer.run.claims import Claims, OnDisk\n"
        "one = Claims(OnDisk(Path(sys.argv[1])), 'other'); one.tell(beat=0); one.take('job')\n"
        "print('there', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"there\n"
    mine = _claims(tmp_path, "mine")
    assert not mine.take("job")
    child.kill()
    child.communicate()
    assert mine.take("job")
    assert mine.last("job").number == 1


def test_a_number_of_a_process_that_came_again_is_no_sign_of_life(tmp_path: Path) -> None:
    claims = _claims(tmp_path)
    claims.tell(beat=0)
    told = json.loads((tmp_path / "process-a").read_text())
    assert told["pid"] == os.getpid()
    assert not claims.ended("a")
    (tmp_path / "process-a").write_text(json.dumps({**told, "since": "1"}))
    assert claims.ended("a")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": []}', "\0\0"])
def test_a_torn_sign_of_life_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "process-b").write_text(text)
    claims = _claims(tmp_path)
    assert not claims.ended("b")
    now = [0.0]
    watch = Watch(claims, 10, lambda: now[0])
    assert not watch.gone("b")
    now[0] = 11
    assert watch.gone("b")


def test_this_process_tells_where_it_runs() -> None:
    told = process()
    assert told["pid"] == os.getpid()
    assert told["host"] == os.uname().nodename


# -- jobs ------------------------------------------------------------------------------------------


class Job:
    """Writes its name."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name

    @property
    def claim(self) -> str:
        return self.name

    @property
    def says(self) -> str:
        return f"job {self.name}"

    @property
    def results(self) -> list[Path]:
        return [self.root / self.name]


def _do(job: Job) -> Status:
    job.results[0].write_text(job.name)
    return "ok"


def _inline(function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Ended[Any, Any]]:
    for job in jobs:
        yield Ended(job=job, status=function(job))


def test_alone_it_does_all_and_leaves_no_claim(tmp_path: Path) -> None:
    jobs = [Job(tmp_path, name) for name in "abc"]
    with crew(tmp_path) as hands:
        ended = [end.job.name for end in hands.share(_inline, _do, jobs)]
    assert ended == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_what_failed_elsewhere_meanwhile_is_not_tried_again(tmp_path: Path) -> None:
    job, other = Job(tmp_path, "a"), Crew(tmp_path)
    with crew(tmp_path) as hands, other.at_work():
        (theirs,) = (other.share(_inline, _do, [job]),)
        assert next(theirs).job.name == "a"  # written, and not given back yet
        mine = hands.share(_inline, lambda _: pytest.fail("done twice"), [Job(tmp_path, "a")])
        before = job.results[0].stat().st_ino
        (tmp_path / "new").write_text("a failure, as they wrote it")
        released = threading.Timer(0.2, lambda: os.replace(tmp_path / "new", job.results[0]))
        released.start()
        assert [end.status for end in mine] == ["ok"]
        assert job.results[0].stat().st_ino != before


def test_a_job_of_one_that_went_without_a_result_is_done(tmp_path: Path) -> None:
    job = Job(tmp_path, "a")
    other = Crew(tmp_path)
    with other.at_work():
        theirs = other.share(_inline, lambda _: "failed", [job])
        next(theirs)
        with crew(tmp_path) as hands:
            gone = threading.Timer(0.2, lambda: list(theirs))  # it goes on, and gives the job back
            gone.start()
            assert [end.status for end in hands.share(_inline, _do, [job])] == ["ok"]
            gone.join()
    assert job.results[0].read_text() == "a"


def test_one_at_a_time_writes_the_report(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def write() -> None:
        with crew(tmp_path) as hands, hands.turn("report"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


# -- who is at work, for people --------------------------------------------------------------------


def test_the_status_says_who_does_what_and_how_far_it_is(tmp_path: Path) -> None:
    import titer
    from tests import toy
    from titer.run.standing import standing
    from titer.run.store import Store

    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    root = tmp_path / "run"
    seen: list[Any] = []
    titer.bench(
        str(tmp_path / "llama"),
        data=tmp_path / "data",
        suite="quick",
        cap=2,
        seeds=1,
        executor="inline",
        out=root,
        ended=lambda trace: seen.append((trace, standing(root))),
    )
    trace, first = seen[0]
    assert first.at_work[0].pid == os.getpid()
    assert not first.reported
    assert any(trace.trial.subject in said for said in first.at_work[0].in_hand)
    assert first.left_seconds is not None
    last = standing(root)
    assert (last.at_work, last.reported) == ((), True)
    assert sum(last.ended.values()) == last.planned == len(Store(root).plan())


# -- what a shared folder says of itself -----------------------------------------------------------


def test_another_machine_stands_beside_the_first_and_is_told_of(tmp_path: Path) -> None:
    from titer.run.machine import write_machine
    from titer.verify.agreement import elsewhere

    packages = {name: "1" for name in ("torch", "transformers", "peft", "numpy")}
    first = {"arithmetic": "a", "device": "cpu", "titer": "1", "packages": packages}
    write_machine(tmp_path, first, shared=False)
    write_machine(tmp_path, {**first, "free_disk_gib": 1.0}, shared=True)
    assert elsewhere(tmp_path, first) == ""
    other = {**first, "arithmetic": "b"}
    for _ in range(2):
        write_machine(tmp_path, other, shared=True)
    assert json.loads((tmp_path / "env.json").read_text()) == {**first, "beside": [other]}
    assert elsewhere(tmp_path, first).endswith("filled the folder beside the first: 1")
    write_machine(tmp_path, other, shared=False)
    assert elsewhere(tmp_path, other) == ""


def test_two_studies_do_not_fill_one_folder_at_once_and_its_day_stays(tmp_path: Path) -> None:
    from dataclasses import replace

    from titer.core.errors import BadInput
    from titer.plan.manifest import read_config, write_config

    study = read_config(Path(__file__).parents[1] / "data" / "recorded").study
    write_config(tmp_path, study, "titer bench", "2026-01-01")
    write_config(tmp_path, study, "titer bench", "2026-02-02", shared=True)
    assert read_config(tmp_path).created == "2026-01-01"
    more = replace(study, seeds=(*study.seeds, 7))
    with pytest.raises(BadInput, match="another process with another study"):
        write_config(tmp_path, more, "titer bench", "2026-02-02", shared=True)
    write_config(tmp_path, more, "titer bench", "2026-02-02")
    assert read_config(tmp_path).study.seeds == more.seeds
