-- An approver's edit replaces an approval by another one, which is bound to the request as edited.
alter table gatehouse.approvals drop constraint approvals_state_check;
alter table gatehouse.approvals add constraint approvals_state_check
    check (state in ('requested', 'approved', 'rejected', 'expired', 'cancelled', 'consumed', 'replaced'));
alter table gatehouse.approvals add edited_from text;  -- digest of what the caller sends; null where nothing was edited
alter table gatehouse.approvals add edit jsonb;        -- what approvers changed of it: {model, max_tokens}
alter table gatehouse.approvals add asked text generated always as (coalesce(edited_from, digest)) stored;

-- The caller goes on sending what they asked for, so that is what they find it by.
drop index gatehouse.approvals_open;
create unique index approvals_open on gatehouse.approvals (asked) where state in ('requested', 'approved');

create or replace view gatehouse.approvals_seen as
select a.id, a.digest,
       case when a.state in ('requested', 'approved') and a.expires_at <= clock_timestamp() then 'expired'
            else a.state end as state,
       a.state as kept_as, a.requested_by, a.requester_user, a.route, a.model, a.rule_ids, a.reason, a.policy_version,
       a.approvers, a.requested_at, a.expires_at,
       coalesce((select jsonb_agg(to_jsonb(v) order by v.at) from gatehouse.approval_votes v where v.approval_id = a.id),
                '[]') as votes,
       a.decided_at, a.consumed_at, a.replaced_by, a.summary, clock_timestamp() as seen_at, a.edited_from, a.edit
  from gatehouse.approvals a;
