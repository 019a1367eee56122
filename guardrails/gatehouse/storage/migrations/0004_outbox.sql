-- What people are still to be told, and what they were told: a row for each event and address.
create table gatehouse.outbox (
    event_id        text not null,
    address         text not null,                    -- by its name, which may be shown
    event           jsonb not null,                   -- who asks for what; no content
    state           text not null default 'pending' check (state in ('pending', 'sent', 'dead')),
    attempts        integer not null default 0,
    created_at      timestamptz not null default clock_timestamp(),
    next_attempt_at timestamptz not null default clock_timestamp(),
    lease           uuid,                             -- of the attempt under way, which lasts until next_attempt_at
    last_error      text,                             -- no word of the receiver's
    sent_at         timestamptz,
    primary key (event_id, address)                   -- nobody is told twice
);
create index outbox_due on gatehouse.outbox (address, next_attempt_at) where state = 'pending';
