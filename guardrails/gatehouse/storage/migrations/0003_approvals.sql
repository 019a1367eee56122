-- Requests that a person must approve. What is approved is the digest; the rest is for the reviewer and the record.
create table gatehouse.approvals (
    id             uuid primary key,                  -- version 7: newer ones sort after older ones
    digest         text not null,                     -- SHA-256 over caller, route, body and policy version
    state          text not null default 'requested'
                   check (state in ('requested', 'approved', 'rejected', 'expired', 'cancelled', 'consumed')),
    requested_by   jsonb not null,                    -- the caller, as LiteLLM knows them
    key_hash       text generated always as (requested_by->>'key_hash') stored,
    requester_user text generated always as (requested_by->>'user') stored,
    route          text not null,
    model          text,
    rule_ids       text[] not null,
    reason         text,
    policy_version text not null,
    summary        jsonb not null,                    -- what a reviewer sees; personal data is masked
    approvers      jsonb not null,                    -- {roles, users, teams, count}
    requested_at   timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null,
    decided_at     timestamptz,
    consumed_at    timestamptz,
    replaced_by    uuid                               -- the approval that an approver's edit made of it
);
-- One open approval for a request, however many gateways its caller asks at once.
create unique index approvals_open on gatehouse.approvals (digest) where state in ('requested', 'approved');
create index approvals_due on gatehouse.approvals (expires_at) where state in ('requested', 'approved');
create index approvals_state on gatehouse.approvals (state, id);

create table gatehouse.approval_votes (
    approval_id uuid not null references gatehouse.approvals (id),
    user_id     text not null,
    role        text,
    key_hash    text,
    approve     boolean not null,
    comment     text,
    edit        jsonb,                                -- what the approver changed: a smaller model, fewer tokens
    at          timestamptz not null default clock_timestamp(),
    primary key (approval_id, user_id)                -- one person, one vote
);

create table gatehouse.approval_history (
    id          bigint generated always as identity primary key,
    approval_id uuid not null references gatehouse.approvals (id),
    at          timestamptz not null default clock_timestamp(),
    event       text not null,
    state       text not null,                        -- after it
    user_id     text                                  -- whose doing it was; null where it was nobody's
);
create index approval_history_of on gatehouse.approval_history (approval_id, id);

create trigger append_only before update or delete or truncate on gatehouse.approval_votes
    for each statement execute function gatehouse.refuse_change();
create trigger append_only before update or delete or truncate on gatehouse.approval_history
    for each statement execute function gatehouse.refuse_change();

-- Approvals as they are read: one whose time is over is expired, whether that has been written down or not.
create view gatehouse.approvals_seen as
select a.id, a.digest,
       case when a.state in ('requested', 'approved') and a.expires_at <= clock_timestamp() then 'expired'
            else a.state end as state,
       a.state as kept_as, a.requested_by, a.requester_user, a.route, a.model, a.rule_ids, a.reason, a.policy_version,
       a.approvers, a.requested_at, a.expires_at,
       coalesce((select jsonb_agg(to_jsonb(v) order by v.at) from gatehouse.approval_votes v where v.approval_id = a.id),
                '[]') as votes,
       a.decided_at, a.consumed_at, a.replaced_by, a.summary, clock_timestamp() as seen_at
  from gatehouse.approvals a;
