-- What reviewers can open of a request: all that is bound, and the values behind placeholders. It ends with the approval.
alter table gatehouse.approvals add copy_epoch text;     -- which of the installation's keys it is wrapped under
alter table gatehouse.approvals add copy_key bytea;      -- the copy's own key, wrapped; without it nothing can be read
alter table gatehouse.approvals add copy_request bytea;  -- encrypted
alter table gatehouse.approvals add copy_values bytea;   -- encrypted
alter table gatehouse.approvals alter copy_request set storage external;  -- it cannot be made smaller
alter table gatehouse.approvals alter copy_values set storage external;

create function gatehouse.erase_review_copy() returns trigger language plpgsql as $$
begin
    new.copy_epoch := null;
    new.copy_key := null;
    new.copy_request := null;
    new.copy_values := null;
    return new;
end $$;
-- Whatever ends an approval, and whoever writes that down: the copy is erased in the same statement.
create trigger erase_review_copy before insert or update on gatehouse.approvals
    for each row when (new.state not in ('requested', 'approved')) execute function gatehouse.erase_review_copy();

-- Of one key, what is open: how many there may be is bounded.
create index approvals_open_of on gatehouse.approvals (key_hash) where state in ('requested', 'approved');
