"""The Python part of setup.sh: `python3 -m gatehouse.embedded.setup env | ports | welcome [--addresses] | secret`.

It imports the standard library only, because Docker mode installs nothing on the host. `env` makes `.env`, `ports`
checks whether Docker can publish its ports, `welcome` makes one real call through the gateway and shows how to make the
next, and `secret` does the same as `gatehouse keys secret`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.embedded import secret
from gatehouse.embedded.envfile import ensure, load
from gatehouse.embedded.ports import check_port
from gatehouse.embedded.settings import LOCAL, StackSettings, read_settings

PATIENCE = 60.0
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "Hello, Gatehouse"}]}


def first_call(settings: StackSettings, patience: float = PATIENCE) -> str:
    """Ask the model `demo` and return its answer. Raise `SetupError` when there is no answer in `patience` s."""
    request = urllib.request.Request(  # noqa: S310
        f"{settings.gateway_url}/v1/chat/completions",
        json.dumps(QUESTION).encode(),
        {"Authorization": f"Bearer {settings.master_key}", "Content-Type": "application/json"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for this machine
    deadline = time.monotonic() + patience
    while True:
        try:
            with direct.open(request, timeout=30) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            reason, last = f"it answered {error.code}: {error.read(300).decode('utf-8', 'replace')}", error.code < 500
        except (OSError, ValueError, LookupError) as error:
            reason, last = str(error), False
        if last or time.monotonic() > deadline:
            raise SetupError(
                f"first call: {settings.gateway_url} did not serve it: {reason}. See ./setup.sh logs gateway."
            )
        time.sleep(1)


def welcome(settings: StackSettings, *, addresses: bool) -> str:
    """Make the first call, and return what a person needs to continue."""
    lines = [f"The model `demo` has answered a first call: {first_call(settings)}"]
    if addresses:
        lines += [
            f"  API:            {settings.gateway_url}/v1",
            f"  Web interface:  {settings.gateway_url}/ui",
            f"  Prometheus:     {settings.address('prometheus')}",
        ]
    body = json.dumps({**QUESTION, "messages": [{"role": "user", "content": "hello"}]})
    lines += [
        "Try it from this folder:",
        f"  curl {settings.gateway_url}/v1/chat/completions \\",
        '    -H "Authorization: Bearer $(sed -n s/^LITELLM_MASTER_KEY=//p .env)" \\',
        f"    -H 'Content-Type: application/json' -d '{body}'",
    ]
    return "\n".join(lines)


def manage_secret(home: Path, arguments: list[str]) -> None:
    """Show, rotate or forget the installation's secrets. Raise `SetupError` where that is impossible."""
    match arguments:
        case ["show"]:
            print(*secret.table(secret.epochs(home, os.environ)), sep="\n")
        case ["rotate"]:
            print(*secret.table(secret.rotate(home).epochs), secret.ROTATED, secret.RESTART, sep="\n")
        case ["forget", epoch, *options] if options in ([], ["--yes"]):
            if not secret.check_forgettable(home, epoch):
                print(f"epoch {epoch}: .env has no such secret; nothing was changed.")
                return
            if not options:
                raise SetupError(f"epoch {epoch}: {secret.LOST} Add --yes to forget it.")
            print(*secret.table(secret.forget(home, epoch).epochs), secret.RESTART, sep="\n")
        case _:
            raise SetupError("secret: the command is incomplete. Add show, rotate or forget EPOCH.")


def main(arguments: list[str]) -> None:
    home = find_home(os.environ, Path.cwd())
    if arguments[0] == "env":
        for line in ensure(home).notes():
            print(line)
        return
    if arguments[0] == "secret":
        manage_secret(home, arguments[1:])
        return
    settings = read_settings(home, load(home))
    if arguments[0] == "ports":
        check_port("Gateway", "GATEHOUSE_PORT", settings.bind, settings.gateway_port)
        check_port("Prometheus", "PROMETHEUS_PORT", LOCAL, settings.prometheus_port)
    else:
        print(welcome(settings, addresses="--addresses" in arguments))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as problem:
        sys.exit(f"error: {problem}")
