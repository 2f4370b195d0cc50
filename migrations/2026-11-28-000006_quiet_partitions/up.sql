-- Makes the monthly partitions from the month of `since` on, as many as `months`, where missing, and never
-- waits for anybody: whatever waits for a table's lock holds up everybody who comes after it, and here that
-- would be every saga, because somebody reads the history. So the new table is made beside its parent and then
-- attached, which readers and writers of the parent may overlook; only of the default partition, in which a row
-- of that month might be, everybody has to be out. Where a lock is not free nothing is made; whoever calls comes
-- again, for the months are made long before they are needed.
-- A month of which the default partition has rows already (an id was made by a clock far ahead) stays there, and
-- the other months are made all the same.
-- Returns how many tables it made; NULL if somebody was in the way.
CREATE OR REPLACE FUNCTION make_partitions(since timestamptz, months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  month  timestamptz;
  made   integer := 0;
  parent text;
  named  text;
BEGIN
  IF NOT pg_try_advisory_xact_lock(4745001) THEN
    RETURN NULL;
  END IF;
  FOR n IN 0 .. months - 1 LOOP
    month := (date_trunc('month', since AT TIME ZONE 'UTC') + make_interval(months => n)) AT TIME ZONE 'UTC';
    FOREACH parent IN ARRAY ARRAY['history', 'effects'] LOOP
      named := parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM');
      CONTINUE WHEN to_regclass(format('%I', named)) IS NOT NULL;
      EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE NOWAIT', parent);
      EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE NOWAIT', parent || '_default');
      BEGIN
        EXECUTE format(
          'CREATE TABLE %I (LIKE %I INCLUDING ALL)%s', named, parent,
          CASE parent WHEN 'effects' THEN ' WITH (fillfactor = 70)' ELSE '' END);
        EXECUTE format(
          'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, named,
          uuid7_floor(month),
          uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
        made := made + 1;
      EXCEPTION WHEN check_violation THEN
        RAISE WARNING 'no partition % is made: the default one has rows of its month', named;
      END;
    END LOOP;
  END LOOP;
  RETURN made;
EXCEPTION
  WHEN lock_not_available THEN
    RETURN NULL; -- and what was made in this call is gone
END
$$;
