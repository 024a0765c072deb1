-- SPDX-License-Identifier: AGPL-3.0-only
-- A later operation may be the first that a site gets of a resource: then its creation is not known yet.

ALTER TABLE cheops.resource ALTER COLUMN created_origin DROP NOT NULL;
