-- SPDX-License-Identifier: AGPL-3.0-only
-- There is one writer, which writes what is referred to in the same transaction or an earlier one, and deletes none of it. To
-- check that again for each row, and to lock the row that it refers to, was a quarter of what an operation costs here. The
-- tests look for orphans instead (tests/lib/audit.py).

ALTER TABLE cheops.operation DROP CONSTRAINT operation_resource_fkey;
ALTER TABLE cheops.execution DROP CONSTRAINT execution_operation_fkey;
ALTER TABLE cheops.outbound DROP CONSTRAINT outbound_operation_fkey;
ALTER TABLE cheops.listener DROP CONSTRAINT listener_operation_fkey;

-- Room for the row that says that an operation is complete, beside the one that it replaces.
ALTER TABLE cheops.operation SET (fillfactor = 70);
