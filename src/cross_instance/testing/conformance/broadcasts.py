"""Broadcast entries: what an application offers is taken once, and it is told what it has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cross_instance.rules.operations import (
    SECOND,
    Beaten,
    Entry,
    Fenced,
    Heartbeat,
    Priority,
    Steal,
    Stolen,
    Sweep,
    Workload,
)
from cross_instance.testing.conformance.law import Need, law
from cross_instance.testing.conformance.mirror import ConformanceError
from cross_instance.testing.conformance.scene import Actor, Scene, require

if TYPE_CHECKING:
    from typing import Any

MOST = 256
"""Entries that an instance can offer at once."""


class Peer(Actor):
    """An instance that offers entries and takes others'."""

    seq = 0

    def offer(self, *entries: Entry, told: tuple[str, ...] = (), **workload: Any) -> tuple[str, ...]:
        """Broadcast a queue; the ids of what others have taken."""
        answer = self.beat(Workload(**workload, stealable=entries), broadcast=True, told=told)
        if not isinstance(answer, Beaten):
            raise ConformanceError(f"{self.name} could not tell its queue: {answer}")
        return answer.taken

    def steal(self) -> str:
        """Take an entry: its id and whose it was, as "id of victim"; "" where there is none."""
        self.seq += 1
        return self.steal_again()

    def steal_again(self) -> str:
        """Ask the same once more."""
        answer = self.scene.run(Steal(self.incarnation, self.seq))
        if not isinstance(answer, Stolen):
            raise ConformanceError(f"{self.name} could not ask for an entry: {answer}")
        return "" if answer.entry is None else f"{answer.entry.id} of {answer.victim}"


@law()
def the_oldest_of_the_highest_class_is_taken(scene: Scene) -> None:
    """Whosever it is: class first, then age; never one's own."""
    one, two, thief = (Peer(scene, name) for name in ("a", "b", "c"))
    one.offer(Entry("young", priority=Priority.HIGH, enqueued_at=9), Entry("normal", enqueued_at=1))
    two.offer(Entry("old", priority=Priority.HIGH, enqueued_at=5), Entry("low", priority=Priority.LOW))
    taken = [thief.steal() for _ in range(5)]
    require(taken == ["old of b", "young of a", "normal of a", "low of b", ""], f"in this order: {taken}")
    one.offer(Entry("mine"))
    require(one.steal() == "", "nobody takes its own")


@law()
def an_entry_has_one_thief(scene: Scene) -> None:
    """Two who ask get it once, also while its former owner goes on listing it."""
    owner, one, two = (Peer(scene, name) for name in ("a", "b", "c"))
    owner.offer(Entry("e"), pending=1)
    require(one.steal() == "e of a" and two.steal() == "", "the first has it")
    shown = scene.world().instances[0].workload
    require((shown.pending, shown.stealable) == (0, ()), f"it is not offered any more: {shown}")
    require(owner.offer(Entry("e")) == ("e",), "the owner is told")
    require(two.steal() == "", "and cannot offer it by listing it")


@law()
def the_loss_is_told_until_it_is_known(scene: Scene) -> None:
    """Every heartbeat names what was taken, listed or not, until it says that this is known."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"), Entry("f"))
    thief.steal()
    require(owner.offer(Entry("f")) == ("e",), "before it runs it itself, its owner asks, and learns of the loss")
    answer = owner.beat()
    require(isinstance(answer, Beaten) and answer.taken == ("e",), "the answer may have been lost: it is told again")
    require(owner.offer(Entry("f"), told=("e",)) == (), "until it is known")
    require(owner.offer(Entry("e")) == () and thief.steal() == "e of a", "then the id may be used anew")


@law()
def a_repeated_question_gets_the_same_entry(scene: Scene) -> None:
    """An answer that was lost is given again; only the next question takes the next entry."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"), Entry("f"))
    require([thief.steal(), thief.steal_again()] == ["e of a", "e of a"], "the same question, the same entry")
    require(thief.steal() == "f of a", "the next one")
    require(thief.steal() == "", "there is no more")
    owner.offer(Entry("g"))
    require(thief.steal_again() == "g of a", "what was answered with nothing asks anew")


@law(Need.CLOCK)
def an_old_queue_is_left_alone(scene: Scene) -> None:
    """What was not told for as long as an instance may be silent is not taken, though its owner lives."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"))
    for _ in range(2):
        scene.pass_time(30 * SECOND + 1)
        owner.beat()
        thief.beat()
    require(thief.steal() == "", "it is too old")
    owner.offer(Entry("e"))
    require(thief.steal() == "e of a", "told anew, it can be taken")


@law()
def the_dead_offer_and_take_nothing(scene: Scene) -> None:
    """What an instance offers goes with it; a fenced one gets nothing."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"))
    scene.run(Sweep(dead=(owner.incarnation,)))
    require(thief.steal() == "", "it went with its owner")
    require(isinstance(scene.run(Steal(owner.incarnation, 1)), Fenced), "and its owner takes nothing")


@law(Need.CLOCK)
def who_comes_back_is_told_its_loss(scene: Scene) -> None:
    """An instance that was removed for its silence, and lives, learns what was taken when it joins anew."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"), Entry("f"))
    thief.steal()
    scene.pass_time(60 * SECOND)
    thief.beat()
    scene.run(Sweep())
    again = Peer(scene, "a")
    require(again.offer(Entry("e"), Entry("f")) == ("e",), "it is told")
    thief.beat()
    require([thief.steal(), thief.steal()] == ["f of a", ""], "and cannot offer it again")


@law()
def a_workload_has_its_bounds(scene: Scene) -> None:
    """What cannot be stored is refused with an error, and nothing changes."""
    owner, thief = Peer(scene, "a"), Peer(scene, "b")
    owner.offer(Entry("e"))
    for workload in (
        Workload(stealable=tuple(Entry(f"e{number}") for number in range(MOST + 1))),
        Workload(stealable=(Entry(""),)),
        Workload(stealable=(Entry("e"), Entry("e"))),
        Workload(stealable=(Entry("x" * 201),)),
        Workload(pending=-1),
        Workload(active_models=(("", "m", 0),)),
    ):
        require(scene.refuses(Heartbeat(owner.incarnation, workload)), f"it should be refused: {workload}"[:200])
    require(owner.offer(*(Entry(f"e{number}") for number in range(MOST))) == (), "so many are accepted")
    require(thief.steal().startswith("e"), "and offered")
