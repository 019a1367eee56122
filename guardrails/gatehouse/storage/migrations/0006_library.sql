-- Calls of library mode: decided on here and made by their caller, who then reports how they ended.
alter table gatehouse.calls add column expires_at timestamptz;  -- until when; null where the gateway makes the call
alter table gatehouse.calls add column seal_after timestamptz;  -- a gateway takes it from then on, and then it is this
                                                                -- that keeps the others from taking it too
alter table gatehouse.calls add column prompt jsonb;            -- {hash, text, mode}, until it is sealed
alter table gatehouse.calls add column reported jsonb;          -- what its caller says; the answer until it is sealed
create index calls_to_seal on gatehouse.calls (seal_after) where settled_at is null and seal_after is not null;
