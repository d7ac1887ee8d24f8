"""Tasks on a Redis broker whose worker was killed: found, and put back into their queues.

What a worker takes lies in the hash `unacked` until it is acknowledged, and the sorted set `unacked_index` tells since
when. Kombu knows no owner, and puts back what is older than the visibility timeout, an hour. Here each worker says what
it holds. A delivery that none of them holds is stranded, if nobody else can hold it. That relies on this:

- Every connection of our workers to the broker has the worker's name (kombu's option `client_name`). A worker lives as
  long as `CLIENT LIST` shows one of that name, and while it says nothing, as in a long pause, nothing is put back.
- A worker takes tasks by BRPOP on one connection, whose last command that stays, also while it is too busy to ask for
  more. One that is not known as ours may hold anything, and nothing is put back: workers run by hand, of any version,
  with remote control or without; for the while, clients that wait for an answer of `inspect` or a result of `rpc://`.
  Those that send tasks, or wait for results in Redis, do no BRPOP.
- A worker that has lost its connection and is too busy to ask again shows no BRPOP, but it hears remote control, whose
  hearers can be counted. If it doesn't, it is missed: Celery puts its tasks back by itself at that moment, and so runs
  them twice, unless the broker is away just then.
- What a worker says it held when the server's clock stood at T is complete for all that was taken until T: it is noted
  in the event loop, which also takes the tasks, after the clock was read.

In doubt nothing is put back, and the visibility timeout remains. Workers renew it for what they hold, so a task may
take longer than that. A task runs twice if its worker is cut off from a
broker that drops the worker's connections but stays up, for longer than `STRANDED_SECONDS`.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import redis

logger = logging.getLogger(__name__)

# Of the names of workers: they are those of their connections, and the keys under which they say what they hold.
PREFIX = "trireme.held."
# For as long nobody must have held a delivery. A worker whose connections broke is back within half of that.
STRANDED_SECONDS = 6.0
# A broker that was away needs that to have all its workers back.
SETTLE_SECONDS = 60
# One worker looks, and another one when that has not for so long.
WATCH_SECONDS = 5
# A task that was lost with its worker so often is taken to be what kills it.
MOST_RESTORED = 5
# A week, after which a task's losses are forgotten.
REMEMBER_SECONDS = 7 * 24 * 3600
# The queue of tasks that never work. Nobody consumes it, but to run them again.
DEAD = "trireme.dead"
# And of those that then killed their workers once more as often.
POISON = "trireme.poison"

# A tag and the time at which it was taken, by the clock of who took it. A tag stays a message's when it is put back.
Delivery = tuple[str, float]


class Claim(NamedTuple):
    """What a worker says it holds."""

    # The server's time, in seconds: all that was taken until then is in it.
    at: float
    tags: frozenset[str]


NOTHING_SAID = Claim(0.0, frozenset())


def held(requests: Iterable[Any], channels: Iterable[Any]) -> set[str]:
    """Return the tags of what a worker holds.

    Args:
        requests: Celery's, of tasks that wait for a process or run. Those that outlived their connection are in no
            channel any more.
        channels: kombu's, of the worker's connection. What was acknowledged or handed back is only marked there.
    """
    tags = {request.message.delivery_tag for request in requests}
    for channel in channels:
        tags |= {*channel.qos._delivered} - channel.qos._dirty
    return tags


def written(at: float, tags: Iterable[str]) -> str:
    """Write a claim down."""
    return json.dumps({"at": at, "tags": sorted(tags)})


def read(text: bytes | str | None) -> Claim:
    """Read a claim; where there is none, nothing is known."""
    try:
        said = json.loads(text or b"")
        return Claim(float(said["at"]), frozenset(said["tags"]))
    except (KeyError, TypeError, ValueError):
        return NOTHING_SAID


def workers(clients: Iterable[Mapping[str, str]], me: str) -> set[str] | None:
    """Return the names of the workers that live, on the database that this one uses.

    Args:
        clients: what CLIENT LIST says.
        me: this worker's name.

    Returns:
        None if somebody else takes tasks, one of ours by more than one connection, or if this worker is not to be seen.
    """
    clients = list(clients)
    databases = {client["db"] for client in clients if client["name"] == me}
    near = [client for client in clients if client["db"] in databases]
    named = {client["name"] for client in near if client["name"].startswith(PREFIX)}
    takers = [client["name"] for client in near if client["cmd"] == "brpop"]
    return None if not named or len(takers) > len(named.intersection(takers)) else named


def hearers(clients: Iterable[Mapping[str, str]], names: set[str]) -> int:
    """Return how many connections of workers hear remote control."""
    return sum(client["name"] in names and client["psub"] != "0" for client in clients)


def stranded(
    seen: Mapping[Delivery, float], now: float, unacked: Iterable[Delivery], claims: Iterable[Claim]
) -> tuple[dict[Delivery, float], list[Delivery]]:
    """Find out which deliveries nobody holds.

    Args:
        seen: since when nobody has held a delivery, as the last look has found it.
        now: the server's time of `unacked`, in seconds.
        unacked: deliveries that are not acknowledged.
        claims: one of each worker that lives, read after that.

    Returns:
        `seen` for the next look, and what is stranded.
    """
    claims = list(claims)
    held = frozenset[str]().union(*(claim.tags for claim in claims))
    known = min((claim.at for claim in claims), default=0.0)
    seen = {delivery: seen.get(delivery, now) for delivery in unacked if delivery[0] not in held}
    return seen, [one for one, since in seen.items() if since <= known and now - since >= STRANDED_SECONDS]


class Watch:
    """Looks for stranded deliveries, and puts them back: one worker's for all of its application.

    Args:
        me: this worker's name.
        exchanges: those of the application.
        control: name of the exchange of its remote control.
    """

    def __init__(self, me: str, exchanges: Sequence[Any], control: str) -> None:
        self._me = me
        self._exchanges = exchanges
        self._control = control
        self._seen: dict[Delivery, float] = {}

    def look(self, channel: Any, client: "redis.Redis") -> bool:
        """Look once, if no other worker does.

        Args:
            channel: kombu's, on the broker; of a connection that nobody else uses.
            client: to the same server, without a prefix for keys.

        Returns:
            Whether it is this worker that looks.
        """
        seen, self._seen = self._seen, {}
        lease = f"trireme.watch.{channel.global_keyprefix}{channel.unacked_key}"
        if not client.set(lease, self._me, nx=True, ex=WATCH_SECONDS) and client.get(lease) != self._me.encode():
            return False
        client.expire(lease, WATCH_SECONDS)
        self._look(channel, client, seen)
        return True

    def _look(self, channel: Any, client: "redis.Redis", seen: Mapping[Delivery, float]) -> None:
        with client.pipeline() as pipe:
            pipe.time()
            pipe.zrange(f"{channel.global_keyprefix}{channel.unacked_index_key}", 0, -1, withscores=True)
            (seconds, micros), entries = pipe.execute()
        if not entries:
            return
        clients = client.client_list()
        names = workers(clients, self._me)
        if names is None or client.info("server")["uptime_in_seconds"] < SETTLE_SECONDS:
            return
        unacked = [(tag.decode(), score) for tag, score in entries]
        claims = [read(text) for text in client.mget(sorted(names))]
        self._seen, found = stranded(seen, seconds + micros / 1e6, unacked, claims)
        # Nobody minds an empty message, and the answer is how many have got it.
        topic = f"{channel.global_keyprefix}{channel.keyprefix_fanout}{self._control}"
        if self._seen and client.publish(topic, "") > hearers(clients, names):
            self._seen = {}
        elif found:
            self._put_back(channel, client, found)

    def _put_back(self, channel: Any, client: "redis.Redis", found: list[Delivery]) -> None:
        from kombu.transport.redis import Mutex, MutexHeld

        for exchange in self._exchanges:
            exchange.declare(channel=channel)
        try:
            # Kombu's own lock for this: who takes it up again while it is looked at here has it from a queue.
            with (
                channel.conn_or_acquire() as prefixed,
                Mutex(prefixed, channel.unacked_mutex_key, channel.unacked_mutex_expire),
            ):
                # Each goes to the head of its queue, so the oldest is the last one.
                for delivery in sorted(found, key=lambda one: one[1], reverse=True):
                    self._put_back_one(channel, client, prefixed, *delivery)
        except MutexHeld:
            pass

    def _put_back_one(
        self, channel: Any, client: "redis.Redis", prefixed: "redis.Redis", tag: str, taken: float
    ) -> None:
        unacked, index = (
            f"{channel.global_keyprefix}{key}" for key in (channel.unacked_key, channel.unacked_index_key)
        )
        text = client.hget(unacked, tag)
        if text is None or client.zscore(index, tag) != taken:
            return
        message, exchange, routing_key = json.loads(text)
        # Kombu would forget a message that it has no queue for, and put one that went to several into all of them.
        known = not exchange or exchange in channel.state.exchanges
        if not known or len(channel._lookup(exchange, routing_key)) != 1:
            return
        with client.pipeline() as pipe:
            pipe.incr(f"trireme.restored.{tag}")
            pipe.expire(f"trireme.restored.{tag}", REMEMBER_SECONDS)
            times = pipe.execute()[0]
        headers = message.get("headers", {})
        name = f"{headers.get('task')}[{headers.get('id')}]"
        if times <= MOST_RESTORED:
            channel.qos.restore_by_tag(tag, prefixed)
            logger.warning("Put back task %s, which was lost with its worker", name)
            return
        # Both are where it will be taken from: who has it is noted with them, and it goes back there.
        aside = POISON if routing_key in (DEAD, POISON) else DEAD
        message.setdefault("properties", {})["delivery_info"] = {"exchange": "", "routing_key": aside}
        with client.pipeline() as pipe:
            pipe.zrem(index, tag)
            pipe.hdel(unacked, tag)
            pipe.delete(f"trireme.restored.{tag}")
            pipe.lpush(f"{channel.global_keyprefix}{aside}", json.dumps(message))
            pipe.execute()
        logger.error("Task %s was lost with its worker %d times: it is put aside in %s", name, times, aside)
