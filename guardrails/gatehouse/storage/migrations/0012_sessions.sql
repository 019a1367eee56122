-- Sessions that a person stopped. A session is what a key calls one: two keys may use the same name for two sessions.
create table gatehouse.stopped_sessions (
    key_hash   text not null,
    session    text not null,                         -- as records show it: a plain name, or a keyed hash
    stopped_at timestamptz not null default now(),
    primary key (key_hash, session)
);

-- Finds the calls of a session; most calls of some installations name none.
create index calls_of_session on gatehouse.calls ((request->'agent'->>'session'), started_at)
    where request->'agent'->>'session' is not null;
