-- What a runner's start took, stage by stage: JSON, '' while it is not ready or when this was not seen.
ALTER TABLE runners ADD COLUMN cold_start TEXT NOT NULL DEFAULT '';
