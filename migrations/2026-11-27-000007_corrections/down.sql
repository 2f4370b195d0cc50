ALTER TABLE effects DROP COLUMN correction;
DROP TABLE corrections;
DROP FUNCTION corrections_stay();
