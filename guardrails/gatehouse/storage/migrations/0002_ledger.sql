-- The ledger: chains of sealed capsules, one for each call that ended. Append-only; what is signed is `canonical`.
create table gatehouse.chains (
    chain     text primary key,
    size      bigint not null default 0,              -- capsules in it, which is the next one's sequence
    head_hash text,                                   -- hash of the last one
    signed_by text,                                   -- the last one's key, or the key that a rotation made active since
    frontier  bytea not null default '\x0000000000000000'  -- the Merkle tree's edge at that size: all it needs to grow
);

create table gatehouse.capsules (
    chain         text not null,
    sequence      bigint not null,
    id            uuid not null unique,               -- the call's id
    previous_hash text,
    canonical     bytea not null,                     -- the bytes that were hashed
    hash          text not null,
    signature     text not null,
    signed_by     text not null,
    signed_at     timestamptz not null,
    subtrees      bytea not null,                     -- of the Merkle tree: hashes of the complete subtrees of two leaves
                                                      -- and more that end with this leaf, 32 bytes each, smallest first
    primary key (chain, sequence)
);

create table gatehouse.checkpoints (
    chain     text not null,
    size      bigint not null,                        -- leaves of the tree
    note      bytea not null,                         -- a signed C2SP tlog-checkpoint
    primary key (chain, size)
);

create function gatehouse.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'gatehouse.% is append-only: % is refused', tg_table_name, tg_op using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on gatehouse.capsules
    for each statement execute function gatehouse.refuse_change();
create trigger append_only before update or delete or truncate on gatehouse.checkpoints
    for each statement execute function gatehouse.refuse_change();

-- What was decided, kept with the intent, so that a call whose gateway died is sealed with it.
alter table gatehouse.calls add column decision jsonb;
