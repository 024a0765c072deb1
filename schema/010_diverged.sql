-- SPDX-License-Identifier: AGPL-3.0-only
-- Replicas that somebody has to look at are counted again and again: resource_unsettled finds those that are degraded.

CREATE INDEX resource_diverged ON cheops.resource (id) WHERE diverged IS NOT NULL;
