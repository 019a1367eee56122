-- What the sealed hash of a prompt was salted with: with it a text can be compared with what was asked. It is no part of
-- what is signed; where it is erased, the record still verifies and says nothing of the prompt any more.
alter table gatehouse.calls add column prompt_salt bytea;
