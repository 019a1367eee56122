"""setup.sh works in both modes; `docker` and `uv` are stand-ins, all else is real."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gatehouse.embedded.envfile import load
from gatehouse.embedded.supervisor import Supervisor

from tests.support.embedded import REPOSITORY, Project

# Answers as DOCKER_SAYS tells it, and writes down what it was asked.
DOCKER = """#!/bin/bash
echo "$*" >>"$HOME/docker.calls"
case "$*" in
  info*) [[ -z ${DOCKER_INFO_FAILS:-} ]] || { echo "$DOCKER_INFO_FAILS" >&2; exit 1; }; echo 28.0 ;;
  "compose version") ;;
  "compose ps --quiet") [[ ! -e $HOME/docker.up ]] || echo 0123abcd ;;
  "compose ps gateway"*) [[ ! -e $HOME/docker.up ]] || echo healthy ;;
  "compose build") [[ -z ${DOCKER_BUILD_FAILS:-} ]] || { echo "$DOCKER_BUILD_FAILS" >&2; exit 17; } ;;
  "compose up"*) [[ -z ${DOCKER_UP_FAILS:-} ]] || { echo "$DOCKER_UP_FAILS" >&2; exit 1; }; touch "$HOME/docker.up" ;;
  "compose down"*) rm -f "$HOME/docker.up" ;;
esac
"""

# Makes a .venv whose `gatehouse` runs the real embedded stack with a stand-in gateway and no query engine.
UV = f"""#!/bin/bash
[[ $1 != --version ]] || {{ echo uv 9.9.9; exit; }}
echo "$*" >>"$HOME/uv.calls"
[[ ! -e $HOME/uv.breaks ]] || exit 2
mkdir -p .venv/bin
ln -sf {sys.executable} .venv/bin/python
cat >.venv/bin/gatehouse <<'END'
#!{sys.executable}
import sys
from pathlib import Path
import gatehouse.cli.stack as commands
from gatehouse.cli import main
home = Path.cwd()
commands._stack = lambda: commands.Stack(home, [sys.executable, str(home / "stand_in.py")])
if sys.argv[1] != "engine":
    main()
END
chmod +x .venv/bin/gatehouse
"""


class Checkout(Project):
    """Holds a folder with setup.sh in it, and a PATH on which `docker` and `uv` are stand-ins."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "checkout")
        for name in ("setup.sh", "scripts/find-uv.sh", "scripts/uv-requirements.txt"):
            (self.home / name).parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / name, self.home / name)
        (self.home / "guardrails").symlink_to(REPOSITORY / "guardrails")
        self.user = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        # As on a bare machine: the standard library and nothing else.
        self.put("python3.11", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        self.put("uv", UV)
        self.put("docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.user), **environ}
        return subprocess.run(
            ["./setup.sh", *arguments], cwd=self.home, env=env, capture_output=True, text=True, timeout=100, check=False
        )

    def calls(self, program: str) -> list[str]:
        path = self.user / f"{program}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def error(self, done: subprocess.CompletedProcess[str]) -> str:
        """Return the one sentence of a failure."""
        assert done.returncode == 1, done.stdout + done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, done.stderr
        return errors[0]


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-setup-"))
    folder.chmod(0o755)
    made = Checkout(folder)
    yield made
    made.remove()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def docker(checkout: Checkout) -> Checkout:
    checkout.put("docker", DOCKER)
    return checkout


@pytest.fixture
def containers(docker: Checkout) -> Iterator[Checkout]:
    """Stand for the containers on the gateway's port, from the first `compose up` on."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"choices": [{"message": {"content": "out of a container"}}]}')

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # setup.sh finds the port taken before it starts anything; only a stack that is up may hold it.
    (docker.user / "docker.up").touch()
    docker.set("GATEHOUSE_PORT", str(server.server_port))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield docker
    server.shutdown()
    server.server_close()


def test_help_and_wrong_arguments(checkout: Checkout) -> None:
    assert "usage: ./setup.sh" in checkout.run("--help").stdout
    assert checkout.run("sideways").returncode == 2
    assert checkout.run("up", "--sideways").returncode == 2


def test_without_docker_it_brings_the_embedded_stack_up_and_down(checkout: Checkout) -> None:
    key = load(checkout.home)["LITELLM_MASTER_KEY"]
    checkout.set("LITELLM_MASTER_KEY", "")  # as on the first run, with the ports of this test
    first = checkout.run()
    assert first.returncode == 0, first.stdout + first.stderr
    made = load(checkout.home)["LITELLM_MASTER_KEY"]
    assert made != key
    assert first.stdout.count(made) == 1
    assert "has answered a first call: stand-in\n" in first.stdout
    assert stat.S_IMODE((checkout.home / ".env").stat().st_mode) == 0o600

    before = (checkout.home / ".env").read_bytes(), checkout.pid("gateway")
    second = checkout.run()
    assert second.returncode == 0, second.stderr
    assert "nothing was changed" in second.stdout
    assert made not in second.stdout + second.stderr
    assert ((checkout.home / ".env").read_bytes(), checkout.pid("gateway")) == before

    # The line it prints is one that works.
    line = first.stdout[first.stdout.index("  curl ") :]
    answer = subprocess.run(["bash", "-c", line], cwd=checkout.home, capture_output=True, text=True, check=True)
    assert "stand-in" in answer.stdout

    assert checkout.run("status").returncode == 0
    assert "stand-in: a request" in checkout.run("logs", "gateway").stdout
    down = checkout.run("down")
    assert "its data is kept" in down.stdout
    assert Supervisor(checkout.home / ".gatehouse").survivors() == {}
    assert checkout.run("status").returncode == 3


def test_an_installation_broken_off_is_repaired_by_the_next_run(checkout: Checkout) -> None:
    (checkout.user / "uv.breaks").touch()
    assert "error: packages: uv could not install them" in checkout.error(checkout.run())
    (checkout.home / ".venv/bin").mkdir(parents=True)
    (checkout.home / ".venv/bin/python").symlink_to("/nowhere")
    (checkout.user / "uv.breaks").unlink()
    assert checkout.run().returncode == 0
    assert (checkout.home / ".venv/bin/python").resolve() == Path(sys.executable).resolve()
    (checkout.home / ".gatehouse/venv.unfinished").touch()
    assert checkout.run().returncode == 0
    assert "--reinstall" in checkout.calls("uv")[-1]
    assert not (checkout.home / ".gatehouse/venv.unfinished").exists()


def test_a_start_that_fails_leaves_nothing_running(checkout: Checkout) -> None:
    (checkout.home / "broken").touch()
    assert "gateway: it ended while starting" in checkout.error(checkout.run())
    assert Supervisor(checkout.home / ".gatehouse").survivors() == {}
    assert not (checkout.home / ".gatehouse/mode").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(checkout: Checkout) -> None:
    checkout.home.chmod(0o500)
    try:
        assert "this user may not write here" in checkout.error(checkout.run())
    finally:
        checkout.home.chmod(0o755)


def test_docker_mode_makes_env_starts_calls_and_remembers(containers: Checkout) -> None:
    done = containers.run()
    assert done.returncode == 0, done.stderr
    assert "out of a container" in done.stdout
    assert "compose build" in containers.calls("docker")
    assert "compose up --detach --wait" in containers.calls("docker")
    assert (containers.home / "ledger").stat().st_mode & 0o777 == 0o700
    assert containers.calls("uv") == []
    assert not (containers.home / ".venv").exists()
    assert containers.run("status").returncode == 0
    assert containers.run("logs", "gateway", "-f").returncode == 0
    assert "compose logs -n 20 gateway -f" in containers.calls("docker")
    refused = containers.run("--local")
    assert "mode: Gatehouse runs in Docker. Run ./setup.sh down first" in containers.error(refused)
    assert containers.run("down").returncode == 0
    assert "compose down --remove-orphans" in containers.calls("docker")
    assert containers.run("status").returncode == 3


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"DOCKER_INFO_FAILS": "permission denied while trying to connect to the Docker daemon socket"},
            "error: Docker: this user may not use its socket. Add the user to the group docker",
        ),
        (
            {"DOCKER_BUILD_FAILS": "python:3.11: failed to do request: dial tcp: lookup registry: no such host"},
            "error: network: Docker could not fetch what it needs (python:3.11",
        ),
        ({"DOCKER_BUILD_FAILS": "write /var/lib: no space left on device"}, "error: disk: Docker has no space left."),
        ({"DOCKER_UP_FAILS": "container gatehouse-gateway-1 is unhealthy"}, "error: Docker: the start failed."),
    ],
)
def test_a_failure_of_docker_is_one_sentence_and_is_undone(
    docker: Checkout, environ: dict[str, str], told: str
) -> None:
    assert docker.error(docker.run(**environ)).startswith(told)
    assert not (docker.home / ".gatehouse/mode").exists()
    started = any(call.startswith("compose build") for call in docker.calls("docker"))
    assert ("compose down --remove-orphans" in docker.calls("docker")) == started


def test_a_port_that_docker_finds_taken_is_named_with_its_variable(docker: Checkout) -> None:
    port = load(docker.home)["PROMETHEUS_PORT"]
    said = f"Bind for 127.0.0.1:{port} failed: port is already allocated"
    assert f"port {port} is already taken. Stop that program, or set PROMETHEUS_PORT" in docker.error(
        docker.run(DOCKER_UP_FAILS=said)
    )


def test_a_taken_port_is_found_before_anything_is_built(docker: Checkout) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    docker.set("GATEHOUSE_PORT", str(server.server_port))
    told = docker.error(docker.run())
    server.server_close()
    assert f"Gateway: port {server.server_port} is already taken" in told
    assert "compose build" not in docker.calls("docker")


def test_no_python_is_told(checkout: Checkout) -> None:
    (checkout.bin / "python3.11").unlink()
    empty = checkout.user / "empty"
    empty.mkdir()
    for name in ("bash", "dirname", "env", "mkdir", "cat", "rm"):
        (empty / name).symlink_to(shutil.which(name) or "/missing")
    done = checkout.run(PATH=str(empty))
    assert "error: python: no interpreter" in checkout.error(done)
