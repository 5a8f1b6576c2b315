-- A password that was reset opens nothing any more; another one takes its place.
ALTER TABLE passwords ADD COLUMN reset INTEGER NOT NULL DEFAULT 0;
