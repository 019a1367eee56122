-- One row a governed call: the intent, committed before anything goes upstream, then how it ended.
create table gatehouse.gateways (
    gateway_id     uuid primary key,
    log_id         uuid not null,                     -- the log folder its lines go to
    started_at     timestamptz not null default now(),
    ended_at       timestamptz,                       -- said by itself, or by another that saw its heartbeat stop
    heartbeat      bigint not null default 0,         -- moves while the gateway lives
    logged_through bigint not null default 0,         -- settle_seq up to which its lines are in the file
    log_complete   boolean not null default false     -- every line of its settled calls is known to be in the file
);

create sequence gatehouse.settle_seq;

create table gatehouse.calls (
    call_id    uuid primary key,
    gateway_id uuid not null,                         -- who answers for the call now
    started_at timestamptz not null,
    request    jsonb not null,                        -- who asked for what; no content
    settled_at timestamptz,
    settle_seq bigint,
    record     jsonb                                  -- the audit line
);
create index calls_open on gatehouse.calls (gateway_id) where settled_at is null;
create index calls_settled on gatehouse.calls (gateway_id, settle_seq) where settled_at is not null;
