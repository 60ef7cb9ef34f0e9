"""The server's life: listen, load, follow the channel; when told to stop, let running requests end, and close."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from stages.publish.promotion import Desk
from stages.publish.serving.access import KEY_ENV, Access
from stages.publish.serving.application import application
from stages.publish.serving.budget import Budget
from stages.publish.serving.conversation import House
from stages.publish.serving.follower import Follower
from stages.publish.serving.metrics import Metrics
from stages.publish.serving.options import Options
from stages.publish.serving.places import Places
from stages.publish.serving.rate import Rate
from stages.publish.serving.served import Served
from stages.shared.errors import ConfigurationError
from stages.shared.progress import say
from stages.shared.workspace import Workspace

SYNTHETIC = ", synthetic: invented questions, simulated experts"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Listener(uvicorn.Server):
    """A uvicorn that leaves signals alone: who is told to stop has more to close than sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield


def serve(options: Options, desk: Desk, access: Access) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises ConfigurationError, IntegrityError or TransientError when the channel's release cannot be served at first.
    """
    path = Workspace(desk.root).state / "serving" / f"{options.channel}.json"
    with Budget(options.budget_usd, path) as budget, _socket(options) as listening:
        asyncio.run(_serve(options, desk, access, budget, listening))


async def _serve(options: Options, desk: Desk, access: Access, budget: Budget, listening: socket.socket) -> None:
    listener, follower = build(options, desk, access, budget)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, listener.handle_exit, number, None)

    def _loaded() -> None:
        _greet(options, access, _checked(follower.current, options), listening.getsockname()[1])

    await run(listener, follower, listening, _loaded)


def build(options: Options, desk: Desk, access: Access, budget: Budget) -> tuple[Listener, Follower]:
    """A server that is not running yet. Call it in the event loop that is to run it."""
    metrics = Metrics()
    follower = Follower(desk, metrics, options)
    house = House(follower, Rate(options.rate), Places(options.concurrency, options.queue), budget, metrics)
    config = uvicorn.Config(
        application(house, access), log_config=None, access_log=False, lifespan="off", server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=max(1, round(options.grace_s)),
    )  # fmt: skip
    return Listener(config), follower


async def run(listener: Listener, follower: Follower, listening: socket.socket, loaded: Callable[[], None]) -> None:
    """Listen, load, call `loaded`, and follow the channel until `listener.should_exit`; then close everything."""
    answering = asyncio.create_task(listener.serve([listening]))
    try:
        await follower.look()
        if listener.should_exit:
            return
        loaded()
        following = asyncio.create_task(follower.follow())
        await answering
        follower.stop()
        await following
    finally:
        try:
            await _stop(listener, answering)
        finally:
            await follower.close()


async def _stop(listener: Listener, answering: asyncio.Task[None]) -> None:
    """Accept nothing more, let running requests end for as long as they are given, then cut them."""
    listener.should_exit = True
    await answering
    for task in list(listener.server_state.tasks):
        task.cancel()


def _checked(served: Served | None, options: Options) -> Served:
    assert served is not None, "a look that does not raise has found a release"
    if options.budget_usd is not None and options.budget_usd < served.most:
        raise ConfigurationError(
            f"--budget-usd {options.budget_usd:g} is less than one question may cost (${served.most:.6f}); raise it"
        )
    return served


def _greet(options: Options, access: Access, served: Served, port: int) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    url, note = f"http://{host}:{port}", SYNTHETIC if served.synthetic else ""
    key = f"with the key in {KEY_ENV}" if access.is_keyed else f"no key ({KEY_ENV} is not set): this machine only"
    bearer = f' -H "Authorization: Bearer ${KEY_ENV}"' if access.is_keyed else ""
    body = f'{{"model": "{options.channel}", "messages": [{{"role": "user", "content": "who ...?"}}]}}'
    if options.allow_unsigned:
        say("WARNING: --allow-unsigned: nothing vouches for what is served. For trying out only.")
    say(f"serving {options.channel}, number {served.event.sequence}: release {served.digest[:16]}{note}")
    say(f"listening on {url}, {key}")
    say(f"try: curl {url}/v1/chat/completions{bearer} -H 'Content-Type: application/json' -d '{body}'")


@contextmanager
def _socket(options: Options) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listening = socket.create_server((options.host.strip("[]"), options.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; choose --host and --port"
        ) from error
    with listening:
        yield listening
