"""Makes the gateway's role in Postgres and grants what it needs: to use LiteLLM's tables and to append to the ledger.

Promises: whatever the role could do before, afterwards it cannot change, empty or drop a capsule or a checkpoint, nor
remove what guards them. A privilege that is right already is not set again. The caller holds `schema.lock`.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from gatehouse.core.errors import SetupError

Connection = psycopg.Connection[tuple[Any, ...]]

_LITELLM = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_READ = frozenset({"SELECT"})
_APPEND = _READ | {"INSERT"}
_KEEP = _APPEND | {"UPDATE"}
# The role may only read tables that this dictionary does not name.
_OURS = {
    "calls": _KEEP,
    "budgets": _KEEP,
    "gateways": _KEEP,
    "chains": _KEEP,
    "capsules": _APPEND,
    "checkpoints": _APPEND,
    "approvals": _KEEP,
    "approval_votes": _APPEND,
    "approval_history": _APPEND,
    "outbox": _KEEP,
    "console_sign_outs": _APPEND | {"DELETE"},
    "conversations": _KEEP | {"DELETE"},
    "stopped_sessions": _APPEND | {"DELETE"},
}
_SEQUENCES = {"public": frozenset({"USAGE", "SELECT", "UPDATE"}), "gatehouse": frozenset({"USAGE", "SELECT"})}
_SCHEMAS = {"public": frozenset({"USAGE", "CREATE"}), "gatehouse": frozenset({"USAGE"})}

# Every relation of both schemas on which this owner may grant, with the role's present privileges from all sources.
_HELD = """
select n.nspname, c.relname, c.relkind = 'S',
       case when c.relkind = 'S'
            then array(select p from unnest(array['USAGE', 'SELECT', 'UPDATE']) p
                        where has_sequence_privilege(%(role)s, c.oid, p))
            else array(select p from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                                                  'TRIGGER']) p
                        where has_table_privilege(%(role)s, c.oid, p)) end
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname in ('public', 'gatehouse') and c.relkind in ('r', 'p', 'v', 'm', 'S')
   and pg_has_role(c.relowner, 'usage')
 order by 1, 2"""

_HELD_SCHEMAS = """
select n.nspname, array(select p from unnest(array['USAGE', 'CREATE']) p where has_schema_privilege(%(role)s, n.oid, p))
  from pg_namespace n where n.nspname in ('public', 'gatehouse') order by 1"""

_HAS_DEFAULTS = """
select count(*) = 7 from pg_default_acl d, aclexplode(d.defaclacl) a
 where d.defaclrole = (select oid from pg_roles where rolname = current_user)
   and d.defaclnamespace = 'public'::regnamespace
   and a.grantee = (select oid from pg_roles where rolname = %(role)s)
   and (d.defaclobjtype = 'r' and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        or d.defaclobjtype = 'S' and a.privilege_type in ('USAGE', 'SELECT', 'UPDATE'))"""


def ensure_role(connection: Connection, gateway_url: str) -> list[str]:
    """Create the role that `gateway_url` names, and make sure that its password opens the database.

    Returns:
        A line for each thing that was done.

    Raises:
        SetupError: the role may do more than a gateway's, or the owner may neither create it nor set its password.
    """
    address = conninfo_to_dict(gateway_url)
    name, password = str(address.get("user", "")), str(address.get("password") or "")
    found = connection.execute(
        """select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
                  or pg_has_role(oid, current_user, 'member'), pg_has_role(oid, 'usage')
             from pg_roles where rolname = %s""",
        (name,),
    ).fetchone()
    done = []
    try:
        if found is None:
            _set_password(connection, "create role {} login nosuperuser nocreatedb nocreaterole", name, password)
            done.append(f"role {name}: created")
        elif found[0]:
            raise SetupError(
                f"role {name}: it may do more in Postgres than a gateway should. Take its attributes and its "
                "membership in the owner's role away, or name another role in DATABASE_URL."
            )
        elif not _opens(gateway_url):
            _set_password(connection, "alter role {} login", name, password)
            done.append(f"role {name}: its password is now the one in DATABASE_URL")
        if found is None or not found[1]:
            # The owner then can change and drop the views that LiteLLM makes with this role.
            row = connection.execute("select pg_has_role(%s, 'usage')", (name,)).fetchone()
            if row and not row[0]:
                connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise SetupError(
            f"role {name}: the owner may not make it or set its password ({error.diag.message_primary}). "
            "Do that as a superuser, with the password in DATABASE_URL."
        ) from None
    return done


def _set_password(connection: Connection, statement: str, name: str, password: str) -> None:
    """Run `create role` or `alter role` with the password as SCRAM's verifier, which the server's log may show."""
    command = sql.SQL(statement).format(sql.Identifier(name))
    if password:
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        command += sql.SQL(" password {}").format(sql.Literal(verifier.decode()))
    connection.execute(command)


def _opens(gateway_url: str) -> bool:
    try:
        psycopg.connect(gateway_url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def set_default_privileges(connection: Connection, role: str) -> None:
    """Let the role use at once what the owner adds to LiteLLM's schema from now on."""
    row = connection.execute(_HAS_DEFAULTS, {"role": role}).fetchone()
    if row is None or not row[0]:
        for kind, privileges in (("tables", _LITELLM), ("sequences", _SEQUENCES["public"])):
            connection.execute(
                sql.SQL("alter default privileges in schema public grant {} on {} to {}").format(
                    _list(privileges), sql.SQL(kind), sql.Identifier(role)
                )
            )


def grant(connection: Connection, role: str) -> list[str]:
    """Give the role what the gateway needs, and take away what it must not have.

    Returns:
        A line for each thing that was done.

    Raises:
        SetupError: another role gives it more than that.
    """
    changed = _correct_all(connection, role)
    if changed and _correct_all(connection, role):
        raise SetupError(
            f"role {role}: it may do more with the ledger's tables than add to them, by way of another role. "
            "Take its memberships away (revoke ... from) and run this again."
        )
    return [f"role {role}: privileges on {changed} tables, sequences and schemas set"] if changed else []


def _correct_all(connection: Connection, role: str) -> int:
    changed = 0
    for schema, held in connection.execute(_HELD_SCHEMAS, {"role": role}).fetchall():
        changed += _correct(connection, role, schema, sql.SQL("schema ") + sql.Identifier(schema), held, _SCHEMAS)
    for schema, name, is_sequence, held in connection.execute(_HELD, {"role": role}).fetchall():
        kind, wanted = ("sequence ", _SEQUENCES) if is_sequence else ("table ", _tables(name))
        changed += _correct(connection, role, schema, sql.SQL(kind) + sql.Identifier(schema, name), held, wanted)
    return changed


def _tables(name: str) -> dict[str, frozenset[str]]:
    return {"public": _LITELLM, "gatehouse": _OURS.get(name, _READ)}


def _correct(
    connection: Connection,
    role: str,
    schema: str,
    what: sql.Composed,
    held: list[str],
    wanted_by_schema: dict[str, frozenset[str]],
) -> bool:
    """Turn the privileges `held` into the wanted ones. Extra ones in LiteLLM's schema do no harm: it owns views."""
    wanted = wanted_by_schema[schema]
    if wanted <= set(held) if schema == "public" else wanted == set(held):
        return False
    if schema != "public":
        connection.execute(sql.SQL("revoke all on {} from public, {}").format(what, sql.Identifier(role)))
    connection.execute(sql.SQL("grant {} on {} to {}").format(_list(wanted), what, sql.Identifier(role)))
    return True


def _list(privileges: frozenset[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(privilege) for privilege in sorted(privileges))
