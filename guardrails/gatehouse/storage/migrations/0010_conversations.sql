-- The way back from the placeholders of what a provider stores: one row for each stored answer, with all values of its
-- conversation, and one for each turn that brought new values to a conversation with an id of its own. Nothing in it can
-- be read, or found under an id, without a key of the installation.
create table gatehouse.conversations (
    number bigint generated always as identity primary key,  -- the newest row of an id counts
    ids bytea[] not null,             -- keyed hashes of the answer's id, or the conversation's, and the items' of the answer
    epoch text not null,              -- which of the installation's keys made them, and encrypted the values
    sealed bytea not null,            -- encrypted: values by placeholder, and the hosts that were named
    expires_at timestamptz not null
);
create index conversations_ids on gatehouse.conversations using gin (ids);
create index conversations_expire on gatehouse.conversations (expires_at);
alter table gatehouse.conversations alter sealed set storage external;  -- it cannot be made smaller
