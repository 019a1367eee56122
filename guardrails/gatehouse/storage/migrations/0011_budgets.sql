-- Money. What a call may cost is reserved in the transaction that commits its intent; what it did cost is charged in
-- the one that settles it. The limits are LiteLLM's, and so is the spend that they are compared with.
create table gatehouse.budgets (
    kind     text not null,                       -- key, user, team, team_member, organization, tag, end_user, project
    id       text not null,
    of       text not null default '',            -- a member's team
    limited  boolean not null default false,      -- it had a limit when an intent was last opened
    reserved numeric not null default 0,          -- what calls under way may still cost
    settled  numeric,                             -- what the ledger says was spent in this period; null: not known yet
    reset_at timestamp,                           -- the end of this period, as LiteLLM has it
    primary key (kind, id, of)
);

alter table gatehouse.calls add column payers jsonb;      -- who pays: [[kind, id, of, "limited" or ""], ...]
alter table gatehouse.calls add column reserved numeric;  -- what it may cost
alter table gatehouse.calls add column held jsonb;        -- of its payers, those whose budgets hold `reserved`

-- LiteLLM's rows of payers `[[kind, id, of], ...]`, by their positions. `max_budget` is null where there is no limit; a
-- payer without a row is left out.
create function gatehouse.litellm_budgets(_payers jsonb)
returns table (n int, spend numeric, max_budget numeric, reset_at timestamp) language plpgsql rows 5 as $$
begin
    return query
    with p as materialized (
        select o::int as n, v->>0 as kind, v->>1 as id, v->>2 as of from jsonb_array_elements(_payers) with ordinality e(v, o))
    select p.n, k.spend::numeric,
           (coalesce(k.max_budget, b.max_budget) + case
                when (k.metadata->>'temp_budget_expiry')::timestamptz > now()
                then coalesce((k.metadata->>'temp_budget_increase')::float8, 0) else 0 end)::numeric,
           coalesce(k.budget_reset_at, b.budget_reset_at)
      from p join public."LiteLLM_VerificationToken" k on k.token = p.id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = k.budget_id where p.kind = 'key'
    union all
    select p.n, u.spend::numeric, u.max_budget::numeric, u.budget_reset_at
      from p join public."LiteLLM_UserTable" u on u.user_id = p.id where p.kind = 'user'
    union all
    select p.n, t.spend::numeric, t.max_budget::numeric, t.budget_reset_at
      from p join public."LiteLLM_TeamTable" t on t.team_id = p.id where p.kind = 'team'
    union all  -- a member without a budget of their own has their team's for members
    select p.n, coalesce(m.spend, 0)::numeric,
           (coalesce(b.max_budget, d.max_budget) + case
                when b.temp_budget_expiry > now() at time zone 'utc'
                then coalesce(b.temp_budget_increase, 0) else 0 end)::numeric,
           coalesce(b.budget_reset_at, d.budget_reset_at)
      from p join public."LiteLLM_TeamTable" t on t.team_id = p.of
      left join public."LiteLLM_TeamMembership" m on m.user_id = p.id and m.team_id = t.team_id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = m.budget_id
      left join public."LiteLLM_BudgetTable" d on d.budget_id = t.metadata->>'team_member_budget_id'
     where p.kind = 'team_member'
    union all
    select p.n, o.spend::numeric, b.max_budget::numeric, b.budget_reset_at
      from p join public."LiteLLM_OrganizationTable" o on o.organization_id = p.id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = o.budget_id where p.kind = 'organization'
    union all
    select p.n, t.spend::numeric, b.max_budget::numeric, b.budget_reset_at
      from p join public."LiteLLM_TagTable" t on t.tag_name = p.id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = t.budget_id where p.kind = 'tag'
    union all  -- `of` names the budget of those who have none of their own
    select p.n, coalesce(e.spend, 0)::numeric, coalesce(b.max_budget, d.max_budget)::numeric,
           coalesce(b.budget_reset_at, d.budget_reset_at)
      from p left join public."LiteLLM_EndUserTable" e on e.user_id = p.id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = e.budget_id
      left join public."LiteLLM_BudgetTable" d on d.budget_id = nullif(p.of, '') where p.kind = 'end_user'
    union all
    select p.n, j.spend::numeric, b.max_budget::numeric, b.budget_reset_at
      from p join public."LiteLLM_ProjectTable" j on j.project_id = p.id
      left join public."LiteLLM_BudgetTable" b on b.budget_id = j.budget_id where p.kind = 'project';
end $$;

-- The same for one payer.
create function gatehouse.litellm_budget(_kind text, _id text, _of text,
                                         out spend numeric, out max_budget numeric, out reset_at timestamp)
language sql as $$
    select l.spend, l.max_budget, l.reset_at
      from gatehouse.litellm_budgets(jsonb_build_array(jsonb_build_array(_kind, _id, _of))) l
$$;

-- Commits intents that may cost something, each if all its budgets have room for it, and reserves that. `_payers` are
-- those of all intents, in one order for all gateways, because their rows are locked in that order; an intent's `at` has
-- the positions of its own. With `_anyhow` an intent is committed without room too: it was let through already.
-- Returns the intents that were refused, with the first budget that has no room.
create function gatehouse.open_intents(_gateway uuid, _payers jsonb, _intents jsonb, _anyhow boolean)
returns table (refused text, kind text, id text, spent numeric, reserved numeric, max_budget numeric)
language plpgsql as $$
declare
    intent jsonb;
    ask numeric;
    n int;
    full_n int;
    limits numeric[];
    spends numeric[];
    holds numeric[];
    before numeric[];
    missed boolean;
    held jsonb;
    places int[];
    until timestamptz;
begin
    -- Those that had a limit when they were last seen are locked first, because what others charged meanwhile can be
    -- seen only then. A limit that is new is locked, and read again.
    loop
        perform from gatehouse.budgets b
           join jsonb_array_elements(_payers) with ordinality e(v, o) on b.kind = v->>0 and b.id = v->>1 and b.of = v->>2
          where b.limited order by o for update of b;
        select array_agg(l.max_budget order by o), array_agg(l.spend order by o), array_agg(b.reserved order by o),
               coalesce(bool_or(l.max_budget is not null and b.limited is not true), false)
          into limits, spends, holds, missed
          from jsonb_array_elements(_payers) with ordinality e(v, o)
          left join gatehouse.litellm_budgets(_payers) l on l.n = o
          left join gatehouse.budgets b on b.kind = v->>0 and b.id = v->>1 and b.of = v->>2;
        exit when not missed;
        insert into gatehouse.budgets as b (kind, id, of, limited)
        select v->>0, v->>1, v->>2, true from jsonb_array_elements(_payers) with ordinality e(v, o)
          join gatehouse.litellm_budgets(_payers) l on l.n = o and l.max_budget is not null order by o
            on conflict on constraint budgets_pkey do update set limited = true;
    end loop;
    before := holds;

    if array_remove(limits, null) = '{}' then  -- nobody limits them
        insert into gatehouse.calls (call_id, gateway_id, started_at, request, decision, prompt, expires_at, seal_after,
                                     payers, reserved)
        select (r->>'call_id')::uuid, _gateway, (r->>'started_at')::timestamptz, r->'request', r->'decision',
               r->'prompt', due, due, r->'payers', (r->>'reserve')::numeric
          from jsonb_array_elements(_intents) r,
               lateral (select clock_timestamp() + (r->>'report_within_s')::float8 * interval '1 second') d(due)
            on conflict do nothing;
        return;
    end if;

    for intent in select value from jsonb_array_elements(_intents) loop
        ask := (intent->>'reserve')::numeric;
        places := array(select x::int + 1 from jsonb_array_elements_text(intent->'at') x);
        full_n := null;
        held := '[]';
        foreach n in array places loop
            continue when limits[n] is null;
            held := held || jsonb_build_array(_payers->(n - 1));
            -- What has no price has no room in a budget.
            if full_n is null and (ask is null or spends[n] + holds[n] + ask > limits[n]) then full_n := n; end if;
        end loop;
        if full_n is not null and not _anyhow
           and not exists (select from gatehouse.calls c where c.call_id = (intent->>'call_id')::uuid) then
            refused := intent->>'call_id';
            kind := _payers->(full_n - 1)->>0; id := _payers->(full_n - 1)->>1;
            spent := spends[full_n]; reserved := holds[full_n]; max_budget := limits[full_n];
            return next;
            continue;
        end if;
        until := clock_timestamp() + (intent->>'report_within_s')::float8 * interval '1 second';
        insert into gatehouse.calls (call_id, gateway_id, started_at, request, decision, prompt, expires_at, seal_after,
                                     payers, reserved, held)
        values ((intent->>'call_id')::uuid, _gateway, (intent->>'started_at')::timestamptz, intent->'request',
                intent->'decision', intent->'prompt', until, until, intent->'payers', ask, held)
            on conflict do nothing;
        continue when not found;
        foreach n in array places loop
            holds[n] := holds[n] + coalesce(ask, 0);
        end loop;
    end loop;

    if holds is distinct from before then
        update gatehouse.budgets b set reserved = holds[o]
          from jsonb_array_elements(_payers) with ordinality e(v, o)
         where b.kind = v->>0 and b.id = v->>1 and b.of = v->>2 and limits[o] is not null;
    end if;
end $$;

-- Charges payers: what their calls cost, and what is no longer reserved. `_charges` is in the order of `open_intents`.
create function gatehouse.charge(_charges jsonb) returns void language plpgsql as $$
declare
    each record;
    budget gatehouse.budgets;
    room record;
begin
    for each in select * from jsonb_to_recordset(_charges) as c(kind text, id text, of text, usd numeric, release numeric)
    loop
        insert into gatehouse.budgets (kind, id, of) values (each.kind, each.id, each.of) on conflict do nothing;
        select * into budget from gatehouse.budgets b
         where b.kind = each.kind and b.id = each.id and b.of = each.of for update;
        select * into room from gatehouse.litellm_budget(each.kind, each.id, each.of);
        -- LiteLLM ends a period by setting the spend anew, and with it the end of the next one.
        if budget.settled is null or (budget.reset_at <= now() at time zone 'utc'
                                      and room.reset_at is distinct from budget.reset_at) then
            budget.settled := coalesce(room.spend, 0);
        end if;
        update gatehouse.budgets b
           set reserved = greatest(b.reserved - each.release, 0), settled = budget.settled + each.usd,
               reset_at = room.reset_at
         where b.kind = each.kind and b.id = each.id and b.of = each.of;
        if each.usd <> 0 then perform gatehouse.add_spend(each.kind, each.id, each.of, each.usd::float8); end if;
    end loop;
end $$;

-- Adds to LiteLLM's spend of a payer.
create function gatehouse.add_spend(_kind text, _id text, _of text, _usd float8) returns void language plpgsql as $$
begin
    case _kind
    when 'key' then
        update public."LiteLLM_VerificationToken"
           set spend = spend + _usd, total_spend = total_spend + _usd, last_active = now() at time zone 'utc'
         where token = _id;
    when 'user' then update public."LiteLLM_UserTable" set spend = spend + _usd where user_id = _id;
    when 'team' then update public."LiteLLM_TeamTable" set spend = spend + _usd where team_id = _id;
    when 'team_member' then
        insert into public."LiteLLM_TeamMembership" as m (user_id, team_id, spend, total_spend)
        select _id, _of, _usd, _usd
         where exists (select from public."LiteLLM_TeamTable" t where t.team_id = _of
                          and t.members_with_roles @> jsonb_build_array(jsonb_build_object('user_id', _id)))
            or exists (select from public."LiteLLM_TeamMembership" t where t.user_id = _id and t.team_id = _of)
            on conflict (user_id, team_id) do update set spend = m.spend + _usd, total_spend = m.total_spend + _usd;
    when 'organization' then
        update public."LiteLLM_OrganizationTable" set spend = spend + _usd where organization_id = _id;
    when 'tag' then update public."LiteLLM_TagTable" set spend = spend + _usd where tag_name = _id;
    when 'end_user' then
        insert into public."LiteLLM_EndUserTable" as e (user_id, spend) values (_id, _usd)
            on conflict (user_id) do update set spend = e.spend + _usd;
    when 'project' then update public."LiteLLM_ProjectTable" set spend = spend + _usd where project_id = _id;
    else null;
    end case;
end $$;

-- Sets LiteLLM's spend of a payer to the ledger's. Returns by how much it differed: above zero where LiteLLM had less.
create function gatehouse.repair_spend(_kind text, _id text, _of text, _only_raise boolean) returns numeric
language plpgsql as $$
declare
    budget gatehouse.budgets;
    room record;
begin
    select * into budget from gatehouse.budgets b where b.kind = _kind and b.id = _id and b.of = _of for update;
    select * into room from gatehouse.litellm_budget(_kind, _id, _of);
    if budget.settled is null or room.spend is null or room.reset_at is distinct from budget.reset_at
       or (_only_raise and room.spend > budget.settled) then
        return 0;
    end if;
    perform gatehouse.add_spend(_kind, _id, _of, (budget.settled - room.spend)::float8);
    return budget.settled - room.spend;
end $$;

-- Reserves more for a call under way. Returns the first budget that has no room for it, and then reserves nothing.
create function gatehouse.reserve_more(_call uuid, _usd numeric)
returns table (kind text, id text, spent numeric, reserved numeric, max_budget numeric)
language plpgsql as $$
declare
    payers jsonb := (select c.held from gatehouse.calls c where c.call_id = _call and c.settled_at is null);
    payer jsonb;
    room record;
    holds numeric;
begin
    for payer in select value from jsonb_array_elements(payers) loop
        select b.reserved into holds from gatehouse.budgets b
         where b.kind = payer->>0 and b.id = payer->>1 and b.of = payer->>2 for update;
        select * into room from gatehouse.litellm_budget(payer->>0, payer->>1, payer->>2);
        if room.spend + holds + _usd > room.max_budget then
            return query select payer->>0, payer->>1, room.spend, holds, room.max_budget;
            return;
        end if;
    end loop;
    for payer in select value from jsonb_array_elements(payers) loop
        update gatehouse.budgets b set reserved = b.reserved + _usd
         where b.kind = payer->>0 and b.id = payer->>1 and b.of = payer->>2;
    end loop;
    update gatehouse.calls c set reserved = c.reserved + _usd where c.call_id = _call;
end $$;
