"""An entry that names what it does not show its author had seen is void, for everybody, in whatever order they hear.

Decision 0063; Byzantine fault B8.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from core_support import search
from forger import Forger
from histories import OBJECTS, PLACES, STRANGE_LOG
from hypothesis import given
from hypothesis import strategies as st
from replica_feed import Feed
from world import World, full_mesh

from meshnode.core.causal import Position
from meshnode.core.ids import ROOT_OBJECT, Dot
from meshnode.core.incident import Author, Document
from meshnode.core.log import Entry
from meshnode.core.operations import (
    Add,
    Create,
    Delete,
    Log,
    Operation,
    Remove,
    Set,
    encode_operation,
    named_dots,
    operation_untrusted,
)
from meshnode.core.replica import FLAG_NAMES_UNSEEN, FLAG_NOT_ENTITLED
from meshnode.storage.memory import MemoryLogStore


class Opened:
    """An incident of three members with a title: what everything below stands on."""

    def __init__(self) -> None:
        self.world = World(7)
        self.hosts = full_mesh(self.world, "BE", "NL", "DE")
        self.incident = self.world.open(self.hosts[0], share=("NL", "DE"))
        self.world.run(2.0)
        store = self.hosts[0].node.store
        heads = store.heads(self.incident)
        self.logs = {head.log: store.read(self.incident, head.log, 1, head.height) for head in heads}
        self.replica = self.hosts[0].node.incidents.replicas[self.incident]
        self.frontier = self.replica.graph.frontier()


OPENED = Opened()


@dataclass
class Told:
    """One entry: what it names as parents, and its operations."""

    author: Forger
    entry: Entry
    parents: list[Position]
    operations: list[Operation]


@dataclass
class Story:
    """What three members write on top of the incident; parents and names are drawn, so each of them is hostile."""

    hands: list[Forger] = field(
        default_factory=lambda: [
            Forger(OPENED.world, host, OPENED.incident, f"hand of {host.name}") for host in OPENED.hosts
        ]
    )
    told: dict[Position, Told] = field(default_factory=dict)

    def tell(self, hand: Forger, parents: list[Position], operations: list[Operation]) -> Position:
        if not hand.entries:
            parents = [*OPENED.frontier, *parents]  # the key it uses was started there
        hashes = tuple(self._hash(parent) for parent in parents)
        plain = [encode_operation(operation) for operation in operations]
        position = (hand.log, len(hand.entries) + 1)
        entry = hand.write(hand.content(*plain, parents=hashes))
        self.told[position] = Told(hand, entry, parents, operations)
        return position

    def _hash(self, position: Position) -> bytes:
        log, seq = position
        return self.told[position].entry.hash if position in self.told else OPENED.logs[log][seq - 1].hash

    def shown(self, position: Position) -> set[Position]:
        """The rule read aloud: the own log before it, and others as far as a parent named up to here reaches."""
        log, seq = position
        shown = {(log, before) for before in range(1, seq)}
        for own in range(1, seq + 1):
            for parent_log, parent_seq in self.told[log, own].parents if (log, own) in self.told else ():
                shown |= {(parent_log, before) for before in range(1, parent_seq + 1)}
        return shown

    def stands(self, position: Position) -> bool:
        shown = self.shown(position)
        return all(
            (dot.log, dot.seq) in shown or (dot[:2] == position and dot.op < index)
            for index, operation in enumerate(self.told[position].operations)
            for dot in named_dots(operation)
        )

    def logs(self) -> dict:
        return {**OPENED.logs, **{hand.log: list(hand.entries) for hand in self.hands if hand.entries}}

    def fresh(self) -> Feed:
        root = OPENED.hosts[0].identity.network_root
        return Feed(OPENED.incident, root, OPENED.replica.keys, self.logs(), MemoryLogStore())

    def document(self) -> Document:
        """Only what stands, in the order in which it was told."""
        document = Document()
        for _, log, seq in OPENED.replica.timeline():
            content = OPENED.replica.read_content(log, seq)
            writer = OPENED.replica.writer(log)
            assert writer is not None
            author = Author(writer.device, writer.noc, writer.name, content.operator, content.time_ms)
            for index, operation in enumerate(content.operations):
                document.apply(Dot(log, seq, index), operation_untrusted(operation), author)
        for (log, seq), told in self.told.items():
            certificate = told.author.host.identity.certificate
            time_ms = OPENED.world.time_of(0).wall_ms
            author = Author(certificate.device, certificate.noc, certificate.name, "forger", time_ms)
            if self.stands((log, seq)):
                for index, operation in enumerate(told.operations):
                    document.apply(Dot(log, seq, index), operation, author)
        return document


@st.composite
def stories(draw: st.DrawFn) -> Story:
    story = Story()
    anything = [Dot(log, seq, op) for log in (*_logs(story), STRANGE_LOG) for seq in (1, 2, 3) for op in (0, 1)]
    for _ in range(draw(st.integers(1, 10))):
        hand = draw(st.sampled_from(story.hands))
        others = [position for position in story.told if position[0] != hand.log]
        parents = draw(st.lists(st.sampled_from(others), max_size=2, unique=True)) if others else []
        honest = _seen_before(story, hand, parents)
        pool = draw(st.sampled_from([honest, honest, anything])) or anything
        operations = draw(st.lists(_operations(pool), min_size=1, max_size=3))
        story.tell(hand, parents, operations)
    return story


def _logs(story: Story) -> list:
    return [*OPENED.logs, *(hand.log for hand in story.hands)]


def _seen_before(story: Story, hand: Forger, parents: list[Position]) -> list[Dot]:
    """Dots of the operations that the next entry of this hand will show to have seen."""
    seen = story.shown((hand.log, len(hand.entries) + 1))
    seen |= {(log, seq) for log, last in parents for seq in range(1, last + 1)}
    told = [(position, story.told[position].operations) for position in sorted(seen) if position in story.told]
    return [Dot(*position, index) for position, operations in told for index in range(len(operations))]


@st.composite
def _operations(draw: st.DrawFn, pool: list[Dot]) -> Operation:
    collection, obj, name = draw(st.sampled_from(PLACES[:3]))
    dots = tuple(sorted(draw(st.sets(st.sampled_from(pool), max_size=2))))
    value = draw(st.sampled_from(["a", "b"]))
    return draw(
        st.sampled_from(
            [
                Set(collection, obj, name, value, dots),
                Set(collection, obj, name, value, dots),
                Remove(collection, obj, name, dots),
                Delete(collection, obj, dots),
                Add(collection, obj, name, value),
                Create(collection, obj),
                Log({"text": value}),
            ]
        )
    )


def fed(story: Story, seed: int, restarts: bool) -> Feed:
    """The runs of all logs in an order drawn from the seed, in which parents come late; from a new start for each."""
    rng = random.Random(seed)
    feed = story.fresh()
    while left := [log for log, entries in feed.logs.items() if feed.heights.get(log, 0) < len(entries)]:
        feed.feed(rng.choice(left), 1 if restarts else rng.randint(1, 3))
        if restarts:
            feed.restart()
    return feed


@given(stories(), st.integers(0, 2**32), st.integers(0, 2**32))
@search(80)
def test_whatever_hostile_members_name_every_order_of_arrival_gives_one_state_and_the_lawful_one(
    story: Story, first: int, second: int
) -> None:
    lawful = story.document().facts_sum
    feeds = [fed(story, first, False), fed(story, second, False), fed(story, first ^ second, True)]
    for feed in feeds:
        assert feed.replica.waiting_entries() == 0
        assert feed.replica.broken_logs() == []
        for position in story.told:
            expected = 0 if story.stands(position) else FLAG_NAMES_UNSEEN
            assert feed.replica.flags(*position) & (FLAG_NAMES_UNSEEN | FLAG_NOT_ENTITLED) == expected
            assert feed.replica.void(*position)[0] == ("names-unseen" if expected else "")
        assert feed.replica.document.facts_sum == lawful
    assert len({feed.digest() for feed in feeds}) == 1


# --- the rule, case by case -------------------------------------------------------------------------------------------


def title(value: str, *replaces: Dot) -> Set:
    return Set("incident", ROOT_OBJECT, "title", value, tuple(sorted(replaces)))


def is_void(story: Story, position: Position) -> bool:
    feed = fed(story, 1, False)
    assert feed.replica.void(*position)[0] == ("" if story.stands(position) else "names-unseen")
    return feed.replica.void(*position)[0] != ""


def test_what_the_own_log_and_named_parents_lead_to_was_seen() -> None:
    story = Story()
    one, other, _ = story.hands
    first = story.tell(one, [], [title("a")])
    second = story.tell(one, [], [title("b", Dot(*first, 0))])
    third = story.tell(other, [second], [title("c", Dot(*first, 0), Dot(*second, 0))])
    fourth = story.tell(other, [], [title("d", Dot(*second, 0), Dot(*third, 0))])
    assert not any(is_void(story, position) for position in (second, third, fourth))


def test_what_comes_later_in_a_log_than_its_parent_was_not_seen() -> None:
    story = Story()
    one, other, _ = story.hands
    first = story.tell(one, [], [title("a")])
    later = story.tell(one, [], [title("b")])
    ahead = story.tell(other, [first], [title("c", Dot(*first, 0), Dot(*later, 0))])
    concurrent = story.tell(one, [], [title("d", Dot(*ahead, 0))])
    assert is_void(story, ahead)
    assert is_void(story, concurrent)


def test_a_parent_that_a_parent_names_is_not_enough() -> None:
    """The author did hold it. To show that costs one more parent, and to judge it one look-up instead of a walk."""
    story = Story()
    one, other, third = story.hands
    first = story.tell(one, [], [title("a")])
    between = story.tell(other, [first], [Log({"text": "between"})])
    assert is_void(story, story.tell(third, [between], [title("b", Dot(*first, 0))]))
    assert not is_void(story, story.tell(third, [first], [title("b", Dot(*first, 0))]))


def test_a_newer_parent_named_earlier_in_the_log_counts_on() -> None:
    story = Story()
    one, other, _ = story.hands
    first = story.tell(one, [], [title("a")])
    second = story.tell(one, [], [title("b")])
    story.tell(other, [second], [Log({"text": "newer"})])
    assert not is_void(story, story.tell(other, [first], [title("c", Dot(*second, 0))]))


def test_what_was_seen_before_a_restart_counts_behind_it() -> None:
    story = Story()
    one, other, _ = story.hands
    first = story.tell(one, [], [title("a")])
    story.tell(other, [first], [Log({"text": "seen"})])
    named = story.tell(other, [], [title("b", Dot(*first, 0))])
    feed = story.fresh()
    for log in OPENED.logs:
        feed.feed(log, 1_000)
    feed.feed(one.log, 1)
    feed.feed(other.log, 1)
    feed.restart()
    feed.feed(other.log, 1)
    assert feed.replica.void(*named) == ("", "")
    assert feed.replica.flags(*named) == 0


def test_in_one_entry_what_stands_before_was_seen_and_itself_and_what_follows_was_not() -> None:
    story = Story()
    hand = story.hands[0]
    log = hand.log
    assert not is_void(story, story.tell(hand, [], [title("a"), title("b", Dot(log, 1, 0))]))
    assert is_void(story, story.tell(hand, [], [title("c", Dot(log, 2, 0))]))
    assert is_void(story, story.tell(hand, [], [title("d", Dot(log, 3, 1)), title("e")]))
    assert is_void(story, story.tell(hand, [], [title("f", Dot(log, 5, 0))]))


def test_a_log_that_nobody_ever_saw_and_each_way_to_name_it_make_an_entry_void() -> None:
    never = (Dot(STRANGE_LOG, 1, 0),)
    for operation in (
        title("a", *never),
        Remove("persons", OBJECTS[0], "aliases", never),
        Delete("persons", OBJECTS[0], never),
    ):
        story = Story()
        assert is_void(story, story.tell(story.hands[0], [], [operation]))


def test_an_operation_that_was_never_written_in_an_entry_that_was_seen_does_nothing_and_is_not_void() -> None:
    story = Story()
    first = story.tell(story.hands[0], [], [title("a")])
    assert not is_void(story, story.tell(story.hands[1], [first], [title("b", Dot(*first, 9))]))


def test_a_void_entry_does_none_of_what_it_says_and_later_names_of_it_do_nothing() -> None:
    story = Story()
    one, other, _ = story.hands
    void = story.tell(one, [], [Create("persons", OBJECTS[0]), title("a", Dot(STRANGE_LOG, 1, 0))])
    after = story.tell(other, [void], [title("b", Dot(*void, 1))])
    assert is_void(story, void)
    assert not is_void(story, after)
    document = fed(story, 1, False).replica.document
    assert document.object_view("persons", OBJECTS[0]) is None
    assert "a" not in [value.value for value in document.fields_view()["title"].values]
