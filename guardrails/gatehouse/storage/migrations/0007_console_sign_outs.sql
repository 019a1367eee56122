-- Sessions of the console that were ended before their time; a session is a sealed cookie, which is kept nowhere else.
create table gatehouse.console_sign_outs (
    nonce      text primary key,                      -- the session's
    expires_at timestamptz not null                   -- when the session would have ended by itself
);
