DROP TABLE catalogue_state, stock, offers, events, sports, venues;
DROP FUNCTION catalogue_changed;
