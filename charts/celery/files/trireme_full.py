"""Has a worker go on although its Redis broker is full: what it took it has to note, give back and tell of.

At `maxmemory`, with the policy noeviction, Redis refuses whatever may need more memory. That is right for those who
send tasks, and they hear of it. But a worker that can't note what it took loses it, one that is refused its queues does
not start, and so nothing would ever make room. Scripts may say that they are to run all the same (Redis 7 and later:
https://redis.io/docs/latest/develop/programmability/eval-intro/, flag allow-oom); by them goes what was refused, unless
it sends a task.
"""

from collections.abc import Sequence
from typing import Any

import redis
from celery.backends.redis import RedisBackend
from redis.client import Pipeline
from redis.exceptions import ResponseError

_ALL_THE_SAME = "#!lua flags=allow-oom\n"
# Each command comes as the number of its words, and these. What is no longer held was given back by another.
_COMMANDS = f"""{_ALL_THE_SAME}
local results, at = {{}}, 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  local result = redis.call(unpack(ARGV, at + 1, last))
  results[#results + 1] = result
  if string.upper(ARGV[at + 1]) == 'HDEL' and result == 0 then break end
  at = last + 1
end
return results
"""
_scripts: dict[str, str] = {}

Command = tuple[tuple[Any, ...], dict[str, Any]]


class Client(redis.Redis):
    """A client of Redis that a full server refuses nothing but tasks that are sent."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Run a command, and once more by a script if the server is full."""
        try:
            return super().execute_command(*words, **options)
        except ResponseError as refusal:
            return _all_the_same(self, [(words, options)], refusal)[0]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Return a pipeline that does so, too."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def register_script(self, script: Any) -> Any:
        """Return a script's object, and know its text."""
        registered = super().register_script(script)
        _scripts[registered.sha] = script
        return registered


class _Pipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands: list[Command] = [(words, options) for words, options in self.command_stack]
        try:
            return super().execute(raise_on_error)
        except ResponseError as refusal:
            return _all_the_same(redis.Redis(connection_pool=self.connection_pool), commands, refusal)


def _all_the_same(client: redis.Redis, commands: Sequence[Command], refusal: ResponseError) -> list[Any]:
    names = {str(words[0]).upper() for words, _ in commands}
    # A task that is given back is taken out of what is held.
    sends = "LPUSH" in names and "HDEL" not in names
    # A command is refused, or a transaction, which is another error: where it was not full yet when it began.
    if sends or "maxmemory" not in str(refusal):
        raise refusal
    try:
        if names == {"EVALSHA"}:
            [((_, sha, *words), _)] = commands
            return [redis.Redis.execute_command(client, "EVAL", _ALL_THE_SAME + _scripts[sha], *words)]
        flat = [word for words, _ in commands for word in (len(words), *words)]
        results = redis.Redis.execute_command(client, "EVAL", _COMMANDS, 0, *flat)
    except (ResponseError, KeyError):
        # Such as of a server that is older, or lets nobody run scripts.
        raise refusal from None
    return [
        _parsed(client, words[0], result, options) for (words, options), result in zip(commands, results, strict=False)
    ]


def _parsed(client: redis.Redis, name: str, result: Any, options: dict[str, Any]) -> Any:
    callback = client.response_callbacks.get(name)
    return callback(result, **options) if callback else result


def keep_results() -> None:
    """Have this process, and those that it forks, store results so."""
    RedisBackend._get_client = lambda self: Client
