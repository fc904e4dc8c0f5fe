"""Requests of all clients share the batches of one model, in three threads: tokenize, compute, decode.

    submit → [waiting] → tokenize → [tokenized] → compute → [computed] → decode → on_done

There is no timer: when the compute thread is free, it takes what waits, oldest first, up to a number of tokens. The
other two threads work beside it, for the batches before and after, where the processor has time for that: while a GPU
computes, or in the pause between two batches. Elsewhere all three steps are the compute thread's, as what is done
beside a batch on the same cores takes as long as before it, and every change of threads costs time.

A request of many items is cut into pieces which take turns with other requests, so it cannot hold them up. A batch that
fails is run again item by item, so that one bad item fails alone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from bertune.errors import InputError
from bertune.serving.compute_turns import TURNS, release_openmp_threads
from bertune.serving.engine import Engine, Logits
from bertune.serving.errors import ItemsError, RequestError
from bertune.serving.memory import HEAP
from bertune.serving.pauses import LoopPause
from bertune.serving.tickets import Group, Piece, Ticket

logger = logging.getLogger(__name__)


WORTH_THE_CORES = 8
"""Answers in a pause for which the OpenMP threads that helped to compute are ended. GNU's wait for the next batch by
spinning, on the cores where clients read, the event loop writes, and texts are tokenized."""


class Batcher:
    """The queue and the three threads of one model."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        observe: Callable[[str, float], object],
        pause: LoopPause | None = None,
    ) -> None:
        """Start the threads.

        Args:
            engine: the model.
            max_batch_tokens: most tokens computed at a time; a longer single item is computed alone.
            max_queue_tokens: tokens that may wait; more are refused.
            observe: receives measurements by name (`batch_tokens`, `batch_items`, `tokenize_seconds`, …).
            pause: taken between two batches, where the processor computes them.
        """
        self.engine, self.max_batch_tokens, self.max_queue_tokens = engine, max_batch_tokens, max_queue_tokens
        self._observe, self._pause = observe, pause or LoopPause()
        self._host_is_free = engine.host_is_free
        self._lock = threading.Lock()
        self._to_tokenize, self._to_compute, self._to_decode = (threading.Condition(self._lock) for _ in range(3))
        self._waiting: deque[Ticket] = deque()
        self._tokenized: deque[Group] = deque()
        self._computed: deque[tuple[Group, Logits]] = deque()
        self.queued_tokens = self._waiting_tokens = self._submitted = 0
        self._closing = self._tokenizing = self._computing = self._pausing = False
        steps = (self._tokenize_step, self._compute_step, self._decode_step)
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f"bertune{step.__name__}", daemon=True)
            for step in steps
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, ticket: Ticket) -> None:
        """Queue a request; `ticket.done` is called from another thread when it is answered.

        Raises:
            RequestError: 413 more than can ever wait, 429 the queue is full, 503 closing.
        """
        tokens = sum(ticket.estimates)
        if tokens > self.max_queue_tokens:
            raise RequestError(
                413, "too_large", f"about {tokens} tokens in one request; at most {self.max_queue_tokens}: split it"
            )
        with self._lock:
            if self._closing:
                raise RequestError(503, "unavailable", "the model is being replaced or stopped; try again")
            if self.queued_tokens and self.queued_tokens + tokens > self.max_queue_tokens:
                raise RequestError(
                    429, "overloaded", f"{self.queued_tokens} tokens wait already; try again", {"Retry-After": "1"}
                )
            self.queued_tokens += tokens
            self._waiting_tokens += tokens
            self._submitted += 1
            self._waiting.append(ticket)
            if not self._computing:
                self._to_compute.notify()
            elif self._enough_waits():
                self._to_tokenize.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more: what has not been computed of it is left out."""
        ticket.cancelled = True

    def close(self, seconds: float = 30.0) -> bool:
        """Answer what waits, take nothing new, end the threads. Returns whether that was done within the time."""
        with self._lock:
            self._closing = True
            self._wake_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # The threads. A thread is woken only for what it can take: every waking costs the computing thread its core.

    def _run(self, step: Callable[[], bool]) -> None:
        """Run a step until it says that nothing will come any more; an error in it ends no thread."""
        with TURNS.member() if step == self._compute_step else nullcontext():  # == as each access binds anew
            while True:
                try:
                    if not step():
                        return
                except Exception:
                    logger.exception("serving: an unexpected error; the service continues")

    def _wake_all(self) -> None:
        for condition in (self._to_tokenize, self._to_compute, self._to_decode):
            condition.notify_all()

    def _tokenize_step(self) -> bool:
        """Tokenize beside a batch that is computed, for the next one, in portions that are worth it."""
        with self._lock:
            while not (pieces := self._take_pieces(self._room()) if self._enough_waits() else []):
                if self._closing and not self._waiting:
                    return False
                self._to_tokenize.wait()
            self._tokenizing = True
        groups: list[Group] = []
        try:
            groups = self._tokenize(pieces)
        finally:
            with self._lock:
                self._tokenized.extend(groups)
                self._tokenizing = False
                if not self._computing:
                    self._to_compute.notify()
        return True

    def _enough_waits(self) -> bool:
        """Whether tokenizing beside, for the next batch, is worth a group of its own. The lock is held."""
        room = self._room()
        beside = self._computing and (self._host_is_free or self._pausing)
        return beside and room > 0 and self._waiting_tokens >= min(room, self.max_batch_tokens // 4)

    def _room(self) -> int:
        """Tokens that the next batch still takes. The lock is held."""
        return self.max_batch_tokens - sum(group.features.tokens for group in self._tokenized)

    def _compute_step(self) -> bool:
        """Compute what has been tokenized and what else there is room for, which is tokenized here.

        It is decoded here too, unless the processor is free while the next batch is computed.
        """
        with self._lock:
            self._computing = self._pausing = False
            while self._tokenizing or not (self._tokenized or self._waiting):
                if self._closing and not self._tokenizing:
                    self._wake_all()
                    return False
                self._to_compute.wait()
            groups = self._take_groups()
            room = self.max_batch_tokens - sum(group.features.tokens for group in groups)
            pieces = [] if self._tokenized else self._take_pieces(room, at_least_one=not groups)
            self._computing = True
            if self._enough_waits():
                self._to_tokenize.notify()
        groups += self._tokenize(pieces) if pieces else []
        results = self._compute(groups) if groups else []
        with self._lock:
            beside = self._host_is_free and bool(self._tokenized or self._waiting)
            if beside:
                self._computed.extend(results)
                self._to_decode.notify()
        answered: list[Ticket] = []
        if not beside:
            answered = [ticket for group, logits in results for ticket in self._decode(group, logits)]
            self._finish(answered)
        if not self._host_is_free and not self._closing:
            self._take_pause(len(answered))
            HEAP.between_batches(idle=not (self._tokenized or self._waiting))
        return True

    def _take_pause(self, answered: int) -> None:
        """Let the event loop send the answers and receive what follows them; meanwhile that is tokenized.

        answered: requests that have been answered.
        """
        if answered >= WORTH_THE_CORES:
            release_openmp_threads()
        with self._lock:
            self._pausing = True
            if self._enough_waits():
                self._to_tokenize.notify()
        self._pause.take(lambda: self._submitted)

    def _decode_step(self) -> bool:
        with self._lock:
            while not self._computed:
                if self._closing and not (self._waiting or self._tokenizing or self._tokenized or self._computing):
                    return False
                self._to_decode.wait()
            group, logits = self._computed.popleft()
        self._finish(self._decode(group, logits))
        return True

    # What they do

    def _take_groups(self) -> list[Group]:
        """Tokenized groups up to a batch's tokens, oldest first. The lock is held."""
        groups: list[Group] = []
        tokens = 0
        while self._tokenized and (not groups or tokens + self._tokenized[0].features.tokens <= self.max_batch_tokens):
            groups.append(self._tokenized.popleft())
            tokens += groups[-1].features.tokens
        return groups

    def _take_pieces(self, room: int, *, at_least_one: bool = False) -> list[Piece]:
        """Pieces of the waiting requests in turn, oldest first, up to some tokens. The lock is held."""
        pieces: list[Piece] = []
        tokens = 0
        while self._waiting:
            ticket = self._waiting[0]
            if ticket.cancelled:
                self._waiting.popleft()
                self._waiting_tokens -= sum(ticket.estimates[ticket.next_item :])
                self._release(ticket, ticket.next_item, len(ticket.items))
                continue
            piece = self._next_piece(ticket)
            if (pieces or not at_least_one) and tokens + piece.tokens > room:
                break
            ticket.started = ticket.started or time.perf_counter()
            self._waiting.popleft()
            ticket.next_item = piece.stop
            pieces.append(piece)
            tokens += piece.tokens
            self._waiting_tokens -= piece.tokens
            if piece.stop < len(ticket.items):
                self._waiting.append(ticket)  # behind those who came meanwhile
        return pieces

    def _next_piece(self, ticket: Ticket) -> Piece:
        """At most a quarter of a batch's tokens, and at least one item."""
        start = stop = ticket.next_item
        tokens = 0
        while stop < len(ticket.items):
            tokens += ticket.estimates[stop]
            if stop > start and tokens > self.max_batch_tokens // 4:
                break
            stop += 1
        return Piece(ticket, start, stop)

    def _tokenize(self, pieces: list[Piece]) -> list[Group]:
        began = time.perf_counter()
        places: list[tuple[Ticket, int]] = []
        examples: list[Any] = []
        for piece in pieces:
            for index in range(piece.start, piece.stop):
                try:
                    examples.append(self.engine.example(piece.ticket.items[index]))
                    places.append((piece.ticket, index))
                except InputError as error:
                    self._fail_item(piece.ticket, index, str(error))
                except Exception as error:  # a user's task may raise anything
                    logger.exception("serving: the task failed on an item")
                    self._fail_item(piece.ticket, index, f"the task failed on it: {type(error).__name__}: {error}")
        groups = self._featurize(places, examples) if examples else []
        self._observe("tokenize_seconds", time.perf_counter() - began)
        return groups

    def _featurize(self, places: list[tuple[Ticket, int]], examples: list[Any]) -> list[Group]:
        try:
            return [Group(places, examples, self.engine.featurize(examples))]
        except Exception as error:
            if len(examples) > 1:
                singles = zip(places, examples, strict=True)
                return [group for place, example in singles for group in self._featurize([place], [example])]
            if not isinstance(error, InputError):
                logger.exception("serving: an item could not be tokenized")
            self._fail_item(*places[0], str(error) or type(error).__name__)
            return []

    def _compute(self, groups: list[Group]) -> list[tuple[Group, Logits]]:
        began = time.perf_counter()
        with TURNS.turn():
            began_alone = time.perf_counter()
            try:
                results = list(zip(groups, self.engine.compute([group.features for group in groups]), strict=True))
            except Exception as error:
                results = self._compute_apart(groups, error)
        self._observe("wait_for_other_models_seconds", began_alone - began)
        self._observe("compute_seconds", time.perf_counter() - began_alone)
        self._observe("batch_tokens", sum(group.features.tokens for group in groups))
        self._observe("batch_items", sum(len(group.examples) for group in groups))
        return results

    def _compute_apart(self, groups: list[Group], error: Exception) -> list[tuple[Group, Logits]]:
        """A failed batch again, item by item, so that one bad item fails alone. The turn is held."""
        if len(groups) == 1 and len(groups[0].examples) == 1:
            logger.error("serving: an item could not be computed", exc_info=error)
            self._fail_item(*groups[0].places[0], f"{type(error).__name__}: {error}", kind="failed")
            return []
        logger.warning("serving: a batch failed (%s: %s); its items are run one by one", type(error).__name__, error)
        results = []
        for group in groups:
            for place, example in zip(group.places, group.examples, strict=True):
                for single in self._featurize([place], [example]):
                    try:
                        results += list(zip([single], self.engine.compute([single.features]), strict=True))
                    except Exception as own:
                        results += self._compute_apart([single], own)
        return results

    def _decode(self, group: Group, logits: Logits) -> list[Ticket]:
        """Give the group's items their answers. Returns the requests that have all of theirs."""
        began = time.perf_counter()
        try:
            answers = self.engine.decode(group.examples, group.features, logits)
        except Exception as error:
            logger.exception("serving: answers could not be decoded")
            for ticket, index in group.places:
                self._fail_item(ticket, index, f"{type(error).__name__}: {error}", kind="failed")
            return []
        self._observe("decode_seconds", time.perf_counter() - began)
        now = time.perf_counter()
        finished: list[Ticket] = []
        for (ticket, index), answer in zip(group.places, answers, strict=True):
            ticket.answers[index] = answer
            ticket.computed = now
            self._count_down(ticket, index, finished)
        return finished

    def _finish(self, tickets: list[Ticket]) -> None:
        """Tell who waits for them: all together, for whoever wakes up takes the interpreter from this thread."""
        for ticket in tickets:
            ticket.done()

    def _fail_item(self, ticket: Ticket, index: int, message: str, kind: str = "bad_item") -> None:
        """An item that the task cannot take refuses its request; one whose computing failed has an error for answer."""
        finished: list[Ticket] = []
        if kind == "bad_item":
            ticket.problems[index] = message
        else:
            ticket.answers[index] = {"error": message, "error_type": kind}
        self._count_down(ticket, index, finished)
        self._finish(finished)

    def _count_down(self, ticket: Ticket, index: int, finished: list[Ticket]) -> None:
        with self._lock:
            self._release(ticket, index, index + 1)
            ticket.remaining -= 1
            if ticket.remaining == 0:
                if ticket.problems:
                    ticket.error = ItemsError(dict(sorted(ticket.problems.items())))
                finished.append(ticket)

    def _release(self, ticket: Ticket, start: int, stop: int) -> None:
        """Tokens of these items no longer wait. The lock is held."""
        self.queued_tokens -= sum(ticket.estimates[start:stop])
