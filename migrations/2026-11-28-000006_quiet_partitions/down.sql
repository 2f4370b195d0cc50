-- Makes the monthly partitions from the month of `since` on, as many as `months`, where missing.
-- Returns how many tables it made.
CREATE OR REPLACE FUNCTION make_partitions(since timestamptz, months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  month  timestamptz;
  made   integer := 0;
  parent text;
BEGIN
  PERFORM pg_advisory_xact_lock(4745001);
  FOR n IN 0 .. months - 1 LOOP
    month := (date_trunc('month', since AT TIME ZONE 'UTC') + make_interval(months => n)) AT TIME ZONE 'UTC';
    FOREACH parent IN ARRAY ARRAY['history', 'effects'] LOOP
      IF to_regclass(format('%I', parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'))) IS NULL THEN
        EXECUTE format(
          'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)%s',
          parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM'), parent,
          uuid7_floor(month),
          uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'),
          CASE parent WHEN 'effects' THEN ' WITH (fillfactor = 70)' ELSE '' END);
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
