DROP TABLE reviews;
DROP TABLE fraud_assessments;
DROP TABLE blocklist;
DROP TABLE velocity;
DROP TABLE quota_takes;
DROP TABLE quotas;
